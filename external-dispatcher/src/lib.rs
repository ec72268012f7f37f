//! Takes handed-off receipts to external APIs, inside their limits.
//!
//! In the order of the flow: [`consumer`] reads a destination's queue, [`gate`] says when a call may be made, [`take`] starts
//! what it lets through, [`dispatch`] claims, settles the delivery, calls and commits the outcome; [`acknowledgements`] gathers what is settled.
//! Each call waits for one of its [`turns`]; [`health`] takes note of what it came to, and closes the destination when the
//! [`breaker`] says so; then a [`canary`] probes it. Beside them [`renewal`] keeps its token fresh; [`series`] begin with the process. [`app`] puts them together.

pub mod acknowledgements;
pub mod app;
pub mod breaker;
pub mod canary;
pub mod consumer;
pub mod dispatch;
pub mod gate;
pub mod health;
pub mod renewal;
pub mod series;
pub mod take;
pub mod turns;
