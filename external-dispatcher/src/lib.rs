//! Takes handed-off receipts to external APIs, inside their limits.
//!
//! In the order of the flow: [`consumer`] reads a destination's queue, [`gate`] says when a call may be made,
//! [`dispatch`] claims, settles the delivery, calls and commits the outcome; [`acknowledgements`] gathers what is settled. [`app`] puts them together.

pub mod acknowledgements;
pub mod app;
pub mod consumer;
pub mod dispatch;
pub mod gate;
