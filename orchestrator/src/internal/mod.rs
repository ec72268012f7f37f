//! Runs internal stages: a bounded number of receipts at once, a checkpoint after each stage.

pub mod claimer;
mod runner;
mod seam;

pub use runner::{Runner, Slot};
