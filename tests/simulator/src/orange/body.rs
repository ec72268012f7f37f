//! What the second API checks in a document.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::check::{OPERATIONS, demand};
use crate::money;

/// A document that is in order.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) id: String,
    pub(crate) inn: String,
    pub(crate) group: String,
    pub(crate) reference: String,
    /// Which of the operations.
    pub(crate) operation: usize,
    /// In kopecks.
    pub(crate) total: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    id: String,
    inn: String,
    group: String,
    key: String,
    reference: String,
    #[serde(borrow)]
    content: Content<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Content<'a> {
    /// From 1, in the order of the operations.
    r#type: usize,
    #[serde(borrow)]
    positions: Vec<Position<'a>>,
    #[serde(borrow)]
    check_close: CheckClose<'a>,
    customer_contact: String,
}

/// Numbers as they are written: no float is made of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Position<'a> {
    text: String,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(borrow)]
    quantity: &'a RawValue,
    tax: u8,
    payment_method_type: u8,
    payment_subject_type: u8,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CheckClose<'a> {
    #[serde(borrow)]
    payments: Vec<Payment<'a>>,
    taxation_system: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment<'a> {
    r#type: u8,
    #[serde(borrow)]
    amount: &'a RawValue,
}

/// Reads and checks a document; the error is the first thing wrong with it.
pub(crate) fn check(body: &[u8]) -> Result<Checked, String> {
    let Body {
        id,
        inn,
        group,
        key,
        reference,
        content,
    } = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    demand((1..=64).contains(&id.len()) && id.is_ascii(), || {
        "id: 1 to 64 ASCII characters".into()
    })?;
    demand(money::is_inn(&inn), || "inn: check digits".into())?;
    demand(!group.is_empty() && !key.is_empty(), || "group, key: missing".into())?;
    demand(reference.contains('/'), || {
        "reference: <merchant id>/<external id>".into()
    })?;
    let total = content.total()?;
    Ok(Checked {
        id,
        inn,
        group,
        reference,
        operation: content.r#type - 1,
        total,
    })
}

impl Content<'_> {
    fn total(&self) -> Result<u64, String> {
        demand((1..=OPERATIONS.len()).contains(&self.r#type), || {
            format!("type: 1 to {}", OPERATIONS.len())
        })?;
        demand(!self.customer_contact.is_empty(), || "customerContact: missing".into())?;
        demand(self.check_close.taxation_system <= 5, || {
            "taxationSystem: 0 to 5".into()
        })?;
        demand((1..=250).contains(&self.positions.len()), || {
            "positions: 1 to 250".into()
        })?;
        let mut total = 0_u64;
        for (place, position) in self.positions.iter().enumerate() {
            let sum = position.sum().map_err(|text| format!("positions[{place}].{text}"))?;
            total = total.checked_add(sum).ok_or("positions: too much")?;
        }
        let payments = &self.check_close.payments;
        demand((1..=10).contains(&payments.len()), || "payments: 1 to 10".into())?;
        let mut paid = 0_u64;
        for payment in payments {
            demand([1, 2, 14, 15, 16].contains(&payment.r#type), || {
                "payments: no such type".into()
            })?;
            let amount = money::hundredths(payment.amount.get()).ok_or("payments.amount: at most two places")?;
            paid = paid.checked_add(amount).ok_or("payments: too much")?;
        }
        demand(paid == total && total > 0, || {
            format!("payments add up to {paid}, positions to {total}")
        })?;
        Ok(total)
    }
}

impl Position<'_> {
    fn sum(&self) -> Result<u64, String> {
        demand((1..=128).contains(&self.text.chars().count()), || {
            "text: 1 to 128 characters".into()
        })?;
        demand((1..=12).contains(&self.tax), || "tax: 1 to 12".into())?;
        demand((1..=7).contains(&self.payment_method_type), || {
            "paymentMethodType: 1 to 7".into()
        })?;
        demand((1..=33).contains(&self.payment_subject_type), || {
            "paymentSubjectType: 1 to 33".into()
        })?;
        let price = money::hundredths(self.price.get()).ok_or("price: at most two places")?;
        money::line_sum(price, self.quantity.get()).ok_or_else(|| "quantity: a decimal above 0".into())
    }
}
