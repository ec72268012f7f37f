//! What a receipt is once it has been read. Its `Debug` shows no personal data: neither customers, sellers nor INNs.

use std::fmt;

use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{PaymentMethod, PaymentObject, PaymentType, Quantity, ReceiptType, TaxSystem, Vat};

/// A receipt that keeps every rule of the contract, as [`parse`](super::parse) returns it.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[non_exhaustive]
pub struct Receipt {
    /// The caller's id: 1 to 128 characters, unique per merchant.
    pub external_id: String,
    /// Who sells.
    pub merchant: Merchant,
    /// What happened; `type` in JSON.
    #[serde(rename = "type")]
    pub kind: ReceiptType,
    /// When it happened, in the caller's own offset.
    #[serde(with = "time::serde::rfc3339")]
    pub operation_time: OffsetDateTime,
    /// Whom the receipt is sent to.
    pub customer: Customer,
    /// What was sold: 1 to 250.
    pub items: Vec<Item>,
    /// What was paid: 1 to 10, which add up to `total`.
    pub payments: Vec<Payment>,
    /// What the items add up to, in minor units: 1 to [`MOST_TOTAL`](super::MOST_TOTAL).
    pub total: i64,
    /// The receipt that a refund gives back; refunds have it, others do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_external_id: Option<String>,
    /// When it must be registered by.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub deadline: Option<OffsetDateTime>,
}

/// Who sells.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Merchant {
    /// 1 to 64 of `A-Za-z0-9._-`.
    pub id: String,
    /// The taxpayer's number: 10 or 12 digits, with check digits. Personal if it has 12.
    pub inn: String,
    /// The group of cash registers: 1 to 64 of `A-Za-z0-9._-`.
    pub group: String,
    /// The tax system.
    pub tax_system: TaxSystem,
    /// Where it was paid, usually an address on the web: 1 to 256 characters.
    pub payment_address: String,
}

/// Whom the receipt is sent to: one of the two at least. Personal.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Customer {
    /// `name@domain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// `+` and 10 to 15 digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
}

/// One thing sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Item {
    /// 1 to 128 characters.
    pub name: String,
    /// 1 to 64 of `A-Za-z0-9._-`.
    pub sku: String,
    /// Of one, in minor units: 0 or more.
    pub price: i64,
    /// How many: a decimal, more than 0, at most six places.
    #[schema(value_type = String, example = "1.5")]
    pub quantity: Quantity,
    /// Price × quantity, rounded half up, in minor units.
    pub sum: i64,
    /// The value added tax.
    pub vat: Vat,
    /// When it is paid for.
    pub payment_method: PaymentMethod,
    /// What it is.
    pub payment_object: PaymentObject,
    /// Whose it is, if not the merchant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seller: Option<Seller>,
}

/// Whose an item is. Personal.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Seller {
    /// The taxpayer's number: 10 or 12 digits, with check digits.
    pub inn: String,
    /// 1 to 128 characters.
    pub name: String,
}

/// A part of what was paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Payment {
    /// What with; `type` in JSON.
    #[serde(rename = "type")]
    pub kind: PaymentType,
    /// Minor units, at least 1.
    pub sum: i64,
}

impl Receipt {
    /// The receipt as JSON in the contract's shape and order of members: times keep their offsets, quantities are in
    /// their shortest form, absent members are left out. It parses to a receipt of the same content.
    ///
    /// Every receipt that [`parse`](super::parse) returned has such a JSON; one that was changed since to a time that
    /// RFC 3339 cannot write has none, and the answer is empty.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Receipt")
            .field("external_id", &self.external_id)
            .field("merchant", &self.merchant)
            .field("kind", &self.kind)
            .field("operation_time", &self.operation_time)
            .field("items", &self.items)
            .field("payments", &self.payments)
            .field("total", &self.total)
            .field("original_external_id", &self.original_external_id)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Merchant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Merchant")
            .field("id", &self.id)
            .field("group", &self.group)
            .field("tax_system", &self.tax_system)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Customer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Customer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Seller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Seller").finish_non_exhaustive()
    }
}
