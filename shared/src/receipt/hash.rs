//! What makes two receipts the same: their content after parsing, not their spelling.
//!
//! The canonical form is binary and hashed as it is made: every text with its length before it, every amount and
//! quantity as a whole number, every time as an instant, every optional member with a mark of whether it is there, every
//! list with its length. No two receipts of different content share a form. The hash is stored: a change of the form
//! must change [`FORM`], and makes every earlier receipt look like other content.

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{Item, Merchant, Receipt};

/// The form's name and version.
const FORM: &str = "chekhov receipt 1";

impl Receipt {
    /// SHA-256 of the content. Order of keys, white space, `"1"` or `"1.0"`, and the offset of a time do not change it.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        let mut form = Form(Sha256::new());
        form.text(FORM);
        form.text(&self.external_id);
        form.merchant(&self.merchant);
        form.text(self.kind.name());
        form.time(self.operation_time);
        form.optional(self.customer.email.as_deref(), Form::text);
        form.optional(self.customer.phone.as_deref(), Form::text);
        form.count(self.items.len());
        for item in &self.items {
            form.item(item);
        }
        form.count(self.payments.len());
        for payment in &self.payments {
            form.text(payment.kind.name());
            form.amount(payment.sum);
        }
        form.amount(self.total);
        form.optional(self.original_external_id.as_deref(), Form::text);
        form.optional(self.deadline, Form::time);
        form.0.finalize().into()
    }
}

/// The canonical form, on its way into the hash.
struct Form(Sha256);

impl Form {
    fn count(&mut self, count: usize) {
        // No platform has a usize of more than 64 bits, so that this widens.
        self.0.update((count as u64).to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text);
    }

    fn amount(&mut self, amount: i64) {
        self.0.update(amount.to_be_bytes());
    }

    fn time(&mut self, time: OffsetDateTime) {
        self.0.update(time.unix_timestamp_nanos().to_be_bytes());
    }

    fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.0.update([u8::from(value.is_some())]);
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn merchant(&mut self, merchant: &Merchant) {
        self.text(&merchant.id);
        self.text(&merchant.inn);
        self.text(&merchant.group);
        self.text(merchant.tax_system.name());
        self.text(&merchant.payment_address);
    }

    fn item(&mut self, item: &Item) {
        self.text(&item.name);
        self.text(&item.sku);
        self.amount(item.price);
        self.0.update(item.quantity.millionths().to_be_bytes());
        self.amount(item.sum);
        self.text(item.vat.name());
        self.text(item.payment_method.name());
        self.text(item.payment_object.name());
        self.optional(item.seller.as_ref(), |form, seller| {
            form.text(&seller.inn);
            form.text(&seller.name);
        });
    }
}
