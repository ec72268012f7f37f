//! Takes receipts in, runs their internal stages, and hands them off to their destinations.
//!
//! Modules in the order of the flow: [`intake`] answers posts, [`internal`] runs stages, [`relay`] queues what is due
//! and publishes it, [`healer`] mends what a dead holder lost, [`deadlines`] shows what is at risk, [`backlogs`] what
//! waits; [`series`] begin with the process. What operators do is judged in [`steering`]; [`jobs`] do it to many. [`app`] puts
//! them together.

pub mod app;
pub mod backlogs;
pub mod deadlines;
pub mod healer;
pub mod intake;
pub mod internal;
pub mod jobs;
pub mod relay;
pub mod series;
pub mod steering;
