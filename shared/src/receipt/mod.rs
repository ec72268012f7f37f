//! The receipt: what a caller posts, read and judged once, before anything is stored.
//!
//! [`parse`] turns a body into a [`Receipt`] or a [`Refusal`] that names every fault at its place; nothing later checks
//! a receipt again. [`Receipt::to_json`] is what is stored and what the filters of pipelines see,
//! [`Receipt::content_hash`] is what tells "the same receipt again" from "another one under the same id".
//!
//! Amounts are whole minor units (kopecks) everywhere, quantities whole millionths; no float touches either.

mod faults;
mod hash;
mod inn;
mod json;
mod members;
mod model;
mod money;
mod names;
mod parse;
#[cfg(test)]
mod tests;

pub use faults::{Fault, Refusal};
pub use model::{Customer, Item, Merchant, Payment, Receipt, Seller};
pub use money::{MOST_TOTAL, Quantity};
pub use names::{PaymentMethod, PaymentObject, PaymentType, ReceiptType, TaxSystem, Vat};
pub use parse::parse;
