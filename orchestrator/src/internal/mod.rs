//! Runs internal stages: a bounded number of receipts at once, a checkpoint after each stage, or after several that come
//! to the same when they are run again.

pub mod claimer;
mod runner;
mod seam;

pub use runner::{Runner, Slot};
