//! Runs internal stages: a bounded number of receipts at once, a checkpoint after each stage.

pub mod claimer;
mod runner;

pub use runner::{Runner, Slot};
