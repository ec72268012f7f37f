//! The receipt as a whole: the fixtures, one fault at a time, and what holds for every body.

mod fixtures;
mod properties;
mod rules;

use serde_json::Value;
use time::OffsetDateTime;
use time::macros::datetime;

use super::{Receipt, Refusal, parse};

const NOW: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
const VALID: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/end-to-end/receipts/valid.ndjson"
));
const INVALID: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../tests/end-to-end/receipts/invalid.ndjson"
));

/// A small receipt: 12345 kopecks for one ride.
fn sample() -> Value {
    serde_json::json!({
        "external_id": "order-000123/1",
        "merchant": {"id": "m-042", "inn": "3914177768", "group": "main-1", "tax_system": "osn",
                     "payment_address": "https://shop.example"},
        "type": "income",
        "operation_time": "2026-11-23T12:00:00+03:00",
        "customer": {"email": "a@example.org"},
        "items": [{"name": "Taxi ride", "sku": "taxi", "price": 12345, "quantity": "1", "sum": 12345, "vat": "vat20",
                   "payment_method": "full_payment", "payment_object": "service",
                   "seller": {"inn": "391417776386", "name": "Seller"}}],
        "payments": [{"type": "electronic", "sum": 12345}],
        "total": 12345,
        "deadline": "2026-11-24T12:00:00+03:00",
    })
}

fn read(value: &Value) -> Result<Receipt, Refusal> {
    parse(value.to_string().as_bytes(), NOW)
}

/// The pointers of the faults; panics if it is not JSON.
fn pointers(outcome: Result<Receipt, Refusal>) -> Vec<String> {
    match outcome {
        Ok(_) => Vec::new(),
        Err(Refusal::Faults(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
        Err(Refusal::NotJson { detail }) => panic!("{detail}"),
    }
}
