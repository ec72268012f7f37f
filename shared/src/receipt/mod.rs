//! The receipt: its shape, its rules, and what makes two of them the same.
//!
//! [`parse`] reports every fault with its place; a parsed receipt needs no further check.

mod faults;
mod inn;
mod members;
mod model;
mod money;
mod parse;

pub use faults::{Fault, Refusal};
pub use model::{Customer, Item, Merchant, Payment, Receipt, Seller};
pub use money::Quantity;
pub use parse::parse;
