//! The internal services: validation, catalog, sellers, tax, numbers, documents.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::http::StatusCode;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::money;
use crate::ways::Milestone;

/// The seller nobody knows.
const UNKNOWN_SELLER: &str = "000000000000";

/// What the internal services remember: the numbers given away.
#[derive(Debug, Default)]
pub(crate) struct Internal {
    numbers: HashMap<String, u64>,
}

impl Internal {
    /// The number of a key, always the same one.
    pub(crate) fn number(&mut self, key: String) -> Answer {
        let next = self.numbers.len() as u64 + 1;
        Answer::ok(&json!({"number": self.numbers.entry(key).or_insert(next)}))
    }
}

/// The part of an envelope that says whose it is.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    receipt: Identity<'a>,
}

#[derive(Deserialize)]
struct Identity<'a> {
    #[serde(borrow)]
    external_id: Cow<'a, str>,
    #[serde(borrow)]
    merchant: Merchant<'a>,
}

#[derive(Deserialize)]
struct Merchant<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// The reference of the receipt in an envelope.
pub(crate) fn reference(body: &[u8]) -> Option<String> {
    let Envelope { receipt } = serde_json::from_slice(body).ok()?;
    Some(format!("{}/{}", receipt.merchant.id, receipt.external_id))
}

/// `POST /validation/validate`
pub(crate) fn validate() -> Answer {
    Answer::ok(&json!({"ok": true}))
}

/// `GET /catalog/items?ids=a,b`
pub(crate) fn catalog(query: &str) -> Answer {
    let ids = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("ids="))
        .map(|ids| ids.replace('+', " "));
    let Some(Ok(ids)) = ids.as_deref().map(|ids| percent_decode_str(ids).decode_utf8()) else {
        return refused("ids: wanted, separated by commas");
    };
    let skus = ids.split(',').filter(|sku| !sku.is_empty());
    let items: Vec<_> = skus
        .map(|sku| json!({"sku": sku, "name": format!("Item {sku}"), "active": true}))
        .collect();
    Answer::ok(&json!({"items": items}))
}

/// `GET /sellers/sellers/{inn}`
pub(crate) fn seller(inn: &str) -> Answer {
    if inn == UNKNOWN_SELLER {
        return Answer::json(StatusCode::NOT_FOUND, &json!({"error": "no such seller"}));
    }
    Answer::ok(&json!({"inn": inn, "name": format!("Seller {inn}"), "active": true}))
}

/// `POST /tax/calculate`
pub(crate) fn tax(body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    struct Envelope {
        receipt: Receipt,
    }
    #[derive(Deserialize)]
    struct Receipt {
        items: Vec<Item>,
        total: u64,
    }
    #[derive(Deserialize)]
    struct Item {
        sum: u64,
        vat: String,
    }
    let Envelope { receipt } = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        Err(error) => return refused(&error.to_string()),
    };
    match money::vat_inside(receipt.items.iter().map(|item| (item.vat.as_str(), item.sum))) {
        Ok(taxes) => {
            let vat: Vec<Value> = taxes
                .into_iter()
                .map(|(vat, sum)| json!({"vat": vat, "sum": sum}))
                .collect();
            Answer::ok(&json!({"vat": vat, "totals": {"total": receipt.total}}))
        }
        Err(rate) => refused(&format!("no such VAT rate: {rate}")),
    }
}

/// `PUT /documents/documents/{key}`
pub(crate) fn document(key: &str) -> Answer {
    Answer::ok(&json!({"document": key})).reaching(Some(Milestone::Document))
}

fn refused(text: &str) -> Answer {
    Answer::json(StatusCode::BAD_REQUEST, &json!({"error": text}))
}
