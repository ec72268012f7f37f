//! The same receipts through the same stages by other ways than Chekhov's, so that the choice rests on figures.

pub mod stages;
