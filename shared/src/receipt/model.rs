//! What a receipt is once it was parsed.

use std::fmt;

use serde::Serialize;
use serde::ser::Serializer;
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, UtcOffset};

use super::Quantity;

/// A receipt without faults. Its `Debug` shows no personal data.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// The caller's id, unique per merchant.
    pub external_id: String,
    /// Who sells.
    pub merchant: Merchant,
    /// `income`, `income_refund`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was paid, with its own offset.
    #[serde(with = "time::serde::rfc3339")]
    pub operation_time: OffsetDateTime,
    /// Who bought.
    pub customer: Customer,
    /// 1 to 250.
    pub items: Vec<Item>,
    /// 1 to 10.
    pub payments: Vec<Payment>,
    /// Kopecks.
    pub total: i64,
    /// What is refunded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_external_id: Option<String>,
    /// To be registered by then.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<OffsetDateTime>,
}

/// Who sells.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Merchant {
    /// Our tenant.
    pub id: String,
    /// Taxpayer's number.
    pub inn: String,
    /// Cash register group.
    pub group: String,
    /// `osn`, …
    pub tax_system: String,
    /// Where it was paid.
    pub payment_address: String,
}

/// Who bought: one of the two at least.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Customer {
    /// Address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// `+` and 10 to 15 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// One position.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// 1 to 128 characters.
    pub name: String,
    /// Article.
    pub sku: String,
    /// Kopecks a piece.
    pub price: i64,
    /// How many.
    #[serde(serialize_with = "shown")]
    pub quantity: Quantity,
    /// Kopecks.
    pub sum: i64,
    /// `none`, `vat20`, …
    pub vat: String,
    /// `full_payment`, …
    pub payment_method: String,
    /// `commodity`, …
    pub payment_object: String,
    /// Whose goods they are, if another's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seller: Option<Seller>,
}

/// Whose goods they are.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Seller {
    /// Taxpayer's number.
    pub inn: String,
    /// 1 to 128 characters.
    pub name: String,
}

/// How it was paid.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Payment {
    /// `cash`, `electronic`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Kopecks, at least 1.
    pub sum: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn shown<S: Serializer>(quantity: &Quantity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(quantity)
}

impl Receipt {
    /// The receipt as JSON: what is stored, and what filters see. Quantities are canonical, times keep their offsets.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings, numbers and times of our own: there is nothing that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// SHA-256 of the canonical content: equal for equal content, however it was written.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        let utc = Self {
            operation_time: self.operation_time.to_offset(UtcOffset::UTC),
            deadline: self.deadline.map(|deadline| deadline.to_offset(UtcOffset::UTC)),
            ..self.clone()
        };
        Sha256::digest(utc.to_json()).into()
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Receipt")
            .field("merchant", &self.merchant.id)
            .field("items", &self.items.len())
            .finish_non_exhaustive()
    }
}
