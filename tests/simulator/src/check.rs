//! What a tax API checks in the body of a registration.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::money;

/// The operations of the API.
pub(crate) const OPERATIONS: [&str; 6] = [
    "sell",
    "sell_refund",
    "buy",
    "buy_refund",
    "sell_correction",
    "buy_correction",
];

const TAX_SYSTEMS: [&str; 5] = ["osn", "usn_income", "usn_income_outcome", "esn", "patent"];

/// A registration as it is sent. Amounts are integers: anything else does not parse.
#[derive(Debug, Deserialize)]
pub(crate) struct Body {
    pub(crate) external_id: String,
    pub(crate) reference: String,
    timestamp: String,
    pub(crate) receipt: Receipt,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Receipt {
    client: Client,
    company: Company,
    items: Vec<Item>,
    payments: Vec<Payment>,
    vats: Option<Vec<Vat>>,
    pub(crate) total: u64,
}

#[derive(Debug, Deserialize)]
struct Client {
    email: Option<String>,
    phone: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Company {
    inn: String,
    sno: String,
    payment_address: String,
}

#[derive(Debug, Deserialize)]
struct Item {
    name: String,
    price: u64,
    quantity: String,
    sum: u64,
    vat: ItemVat,
    supplier_info: Option<Supplier>,
}

#[derive(Debug, Deserialize)]
struct ItemVat {
    r#type: String,
}

#[derive(Debug, Deserialize)]
struct Supplier {
    inn: String,
}

#[derive(Debug, Deserialize)]
struct Payment {
    sum: u64,
}

#[derive(Debug, Deserialize)]
struct Vat {
    r#type: String,
    sum: u64,
}

/// Reads and checks a body; the error is the first thing wrong with it.
pub(crate) fn check(value: &Value) -> Result<Body, String> {
    let body = Body::deserialize(value).map_err(|error| error.to_string())?;
    let id = &body.external_id;
    demand((1..=64).contains(&id.len()) && id.is_ascii(), || {
        "external_id: 1 to 64 ASCII characters".into()
    })?;
    let reference = body.reference.split_once('/');
    demand(
        reference.is_some_and(|(merchant, id)| !merchant.is_empty() && !id.is_empty()),
        || "reference: <merchant id>/<external id>".into(),
    )?;
    demand(is_timestamp(&body.timestamp), || {
        "timestamp: dd.mm.yyyy HH:MM:SS".into()
    })?;
    body.receipt.check()?;
    Ok(body)
}

impl Receipt {
    fn check(&self) -> Result<(), String> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        demand(given(&self.client.email) || given(&self.client.phone), || {
            "client: email or phone".into()
        })?;
        demand(money::is_inn(&self.company.inn), || "company.inn: check digits".into())?;
        demand(TAX_SYSTEMS.contains(&self.company.sno.as_str()), || {
            "company.sno: unknown".into()
        })?;
        demand(!self.company.payment_address.is_empty(), || {
            "company.payment_address: missing".into()
        })?;
        demand((1..=250).contains(&self.items.len()), || "items: 1 to 250".into())?;
        for (place, item) in self.items.iter().enumerate() {
            item.check().map_err(|text| format!("items[{place}].{text}"))?;
        }
        let total = u128::from(self.total);
        let paid: u128 = self.payments.iter().map(|payment| u128::from(payment.sum)).sum();
        let sold: u128 = self.items.iter().map(|item| u128::from(item.sum)).sum();
        demand(total > 0, || "total: at least 1".into())?;
        demand(sold == total, || format!("items add up to {sold}, total is {total}"))?;
        demand((1..=10).contains(&self.payments.len()), || "payments: 1 to 10".into())?;
        demand(self.payments.iter().all(|payment| payment.sum > 0), || {
            "payments: each at least 1".into()
        })?;
        demand(paid == total, || format!("payments add up to {paid}, total is {total}"))?;
        self.check_vats()
    }

    fn check_vats(&self) -> Result<(), String> {
        let rates = self.items.iter().map(|item| (item.vat.r#type.as_str(), item.sum));
        let wanted = money::vat_inside(rates).map_err(|rate| format!("vat: no such rate {rate}"))?;
        let Some(vats) = &self.vats else { return Ok(()) };
        let given: BTreeMap<_, _> = vats.iter().map(|vat| (vat.r#type.as_str(), vat.sum)).collect();
        let same = given.len() == vats.len() && given == wanted.into_iter().collect();
        demand(same, || "vats: not what the items contain".into())
    }
}

impl Item {
    fn check(&self) -> Result<(), String> {
        let characters = self.name.chars().count();
        demand((1..=128).contains(&characters), || "name: 1 to 128 characters".into())?;
        let sum = money::line_sum(self.price, &self.quantity).ok_or("quantity: a decimal above 0")?;
        demand(sum == self.sum, || {
            format!("sum: {} is not price times quantity, {sum}", self.sum)
        })?;
        let known = self
            .supplier_info
            .as_ref()
            .is_none_or(|supplier| money::is_inn(&supplier.inn));
        demand(known, || "supplier_info.inn: check digits".into())
    }
}

/// A hash that is equal for equal JSON, however it is written.
pub(crate) fn canonical_hash(value: &Value) -> [u8; 32] {
    let mut hasher = Sha256::new();
    feed(&mut hasher, value);
    hasher.finalize().into()
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            hasher.update(format!("object {}\n", sorted.len()));
            for (name, member) in sorted {
                hasher.update(format!("{} {name}", name.len()));
                feed(hasher, member);
            }
        }
        Value::Array(elements) => {
            hasher.update(format!("array {}\n", elements.len()));
            for element in elements {
                feed(hasher, element);
            }
        }
        Value::String(text) => hasher.update(format!("string {} {text}", text.len())),
        scalar => hasher.update(format!("{scalar}\n")),
    }
}

fn is_timestamp(text: &str) -> bool {
    text.len() == 19
        && text
            .bytes()
            .zip(b"00.00.0000 00:00:00")
            .all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                mark => byte == *mark,
            })
}

/// The sentence is the error unless it holds.
pub(crate) fn demand(holds: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(text()) }
}
