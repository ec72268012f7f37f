//! From a body to a receipt, or to every fault of it.

use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use super::faults::Refusal;
use super::inn::is_inn;
use super::members::{Faults, Members, is_id, is_name, refuse_nul};
use super::model::{Customer, Item, Merchant, Payment, Receipt, Seller};
use super::money::Quantity;

const TYPES: [&str; 6] = [
    "income",
    "income_refund",
    "expense",
    "expense_refund",
    "income_correction",
    "expense_correction",
];
const TAX_SYSTEMS: [&str; 5] = ["osn", "usn_income", "usn_income_outcome", "esn", "patent"];
const VATS: [&str; 12] = [
    "none", "vat0", "vat5", "vat7", "vat10", "vat20", "vat22", "vat105", "vat107", "vat110", "vat120", "vat122",
];
const METHODS: [&str; 7] = [
    "full_prepayment",
    "prepayment",
    "advance",
    "full_payment",
    "partial_payment",
    "credit",
    "credit_payment",
];
const OBJECTS: [&str; 8] = [
    "commodity",
    "excise",
    "job",
    "service",
    "payment",
    "agent_commission",
    "composite",
    "another",
];
const PAYMENTS: [&str; 5] = ["cash", "electronic", "advance", "credit", "other"];

/// How far ahead of `now` an operation may be.
const AHEAD: Duration = Duration::from_mins(5);
/// The rule of ids.
const ID: &str = "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'";
/// The rule of names.
const NAME: &str = "1 to 128 characters";
/// The rule of taxpayers' numbers.
const INN: &str = "10 or 12 digits with their check digits";

/// Reads a receipt.
///
/// # Errors
/// That it is not JSON, or every fault with its place.
pub fn parse(body: &[u8], now: OffsetDateTime) -> Result<Receipt, Refusal> {
    let value: Value = serde_json::from_slice(body).map_err(|error| Refusal::NotJson {
        detail: format!("not JSON: line {}, column {}", error.line(), error.column()),
    })?;
    let mut faults = Faults::default();
    refuse_nul(&value, "", &mut faults);
    let receipt = read(&value, now, &mut faults);
    match receipt {
        Some(receipt) if faults.0.is_empty() => Ok(receipt),
        _ => Err(Refusal::Faults(faults.0)),
    }
}

fn read(value: &Value, now: OffsetDateTime, faults: &mut Faults) -> Option<Receipt> {
    let mut members = Members::new(value, "", faults)?;
    let external_id = members.text("external_id", NAME, faults, is_name);
    let merchant = members
        .needed("merchant", faults)
        .and_then(|value| merchant(value, faults));
    let kind = members.one_of("type", &TYPES, faults);
    let operation_time = members
        .needed("operation_time", faults)
        .and_then(|value| members.time("operation_time", value, faults));
    if operation_time.is_some_and(|time| time > now + AHEAD) {
        faults.add("/operation_time", "at most five minutes in the future");
    }
    let customer = members
        .needed("customer", faults)
        .and_then(|value| customer(value, faults));
    let items = members.list("items", 250, faults);
    let items = items.and_then(|items| {
        all(items
            .iter()
            .enumerate()
            .map(|(n, value)| item(value, n, faults))
            .collect())
    });
    let payments = members.list("payments", 10, faults);
    let payments = payments.and_then(|payments| {
        all(payments
            .iter()
            .enumerate()
            .map(|(n, value)| payment(value, n, faults))
            .collect())
    });
    let total = members.kopecks("total", 1, faults);
    let original_external_id = original(&mut members, kind.as_deref(), faults);
    let deadline = match members.optional("deadline") {
        Some(value) => members.time("deadline", value, faults).map(Some),
        None => Some(None),
    };
    members.close(faults);
    if let (Some(items), Some(total)) = (&items, total)
        && items.iter().map(|item| i128::from(item.sum)).sum::<i128>() != i128::from(total)
    {
        faults.add("/total", "the items' sums add up to it");
    }
    if let (Some(payments), Some(total)) = (&payments, total)
        && payments.iter().map(|payment| i128::from(payment.sum)).sum::<i128>() != i128::from(total)
    {
        faults.add("/payments", "their sums add up to the total");
    }
    Some(Receipt {
        external_id: external_id?,
        merchant: merchant?,
        kind: kind?,
        operation_time: operation_time?,
        customer: customer?,
        items: items?,
        payments: payments?,
        total: total?,
        original_external_id: original_external_id?,
        deadline: deadline?,
    })
}

fn all<T>(values: Vec<Option<T>>) -> Option<Vec<T>> {
    values.into_iter().collect()
}

/// Required for refunds, else absent.
#[expect(clippy::option_option, reason = "faulty, rightly absent, or there")]
fn original(members: &mut Members<'_>, kind: Option<&str>, faults: &mut Faults) -> Option<Option<String>> {
    let refund = matches!(kind, Some("income_refund" | "expense_refund"));
    match (members.optional("original_external_id"), refund) {
        (None, false) => Some(None),
        (None, true) => {
            faults.add("/original_external_id", "is missing: a refund names what it refunds");
            None
        }
        (Some(_), false) if kind.is_some() => {
            faults.add("/original_external_id", "only a refund has an original");
            None
        }
        (Some(_), _) => members.text("original_external_id", NAME, faults, is_name).map(Some),
    }
}

fn merchant(value: &Value, faults: &mut Faults) -> Option<Merchant> {
    let mut members = Members::new(value, "/merchant", faults)?;
    let id = members.text("id", ID, faults, is_id);
    let inn = members.text("inn", INN, faults, is_inn);
    let group = members.text("group", ID, faults, is_id);
    let tax_system = members.one_of("tax_system", &TAX_SYSTEMS, faults);
    let payment_address = members.text("payment_address", "1 to 256 characters", faults, |text| {
        (1..=256).contains(&text.chars().count())
    });
    members.close(faults);
    Some(Merchant {
        id: id?,
        inn: inn?,
        group: group?,
        tax_system: tax_system?,
        payment_address: payment_address?,
    })
}

fn customer(value: &Value, faults: &mut Faults) -> Option<Customer> {
    let mut members = Members::new(value, "/customer", faults)?;
    let email = match members.optional("email") {
        Some(_) => members
            .text(
                "email",
                "an address such as name@example.org, at most 254 characters",
                faults,
                is_email,
            )
            .map(Some),
        None => Some(None),
    };
    let phone = match members.optional("phone") {
        Some(_) => members
            .text("phone", "+ and 10 to 15 digits", faults, is_phone)
            .map(Some),
        None => Some(None),
    };
    members.close(faults);
    if email == Some(None) && phone == Some(None) {
        faults.add("/customer", "an email or a phone is needed");
        return None;
    }
    Some(Customer {
        email: email?,
        phone: phone?,
    })
}

fn is_email(text: &str) -> bool {
    let Some((name, host)) = text.split_once('@') else {
        return false;
    };
    let plain = |part: &str| {
        !part.is_empty()
            && !part.contains('@')
            && !part.chars().any(|letter| letter.is_whitespace() || letter.is_control())
    };
    text.len() <= 254
        && plain(name)
        && plain(host)
        && host.contains('.')
        && !host.starts_with('.')
        && !host.ends_with('.')
}

fn is_phone(text: &str) -> bool {
    text.strip_prefix('+')
        .is_some_and(|digits| (10..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

fn item(value: &Value, n: usize, faults: &mut Faults) -> Option<Item> {
    let at = format!("/items/{n}");
    let mut members = Members::new(value, &at, faults)?;
    let name = members.text("name", NAME, faults, is_name);
    let sku = members.text("sku", ID, faults, is_id);
    let price = members.kopecks("price", 0, faults);
    let quantity = members
        .text(
            "quantity",
            "a decimal in a string, more than 0, at most six places",
            faults,
            |text| Quantity::parse(text).is_some(),
        )
        .and_then(|text| Quantity::parse(&text));
    let sum = members.kopecks("sum", 0, faults);
    let vat = members.one_of("vat", &VATS, faults);
    let payment_method = members.one_of("payment_method", &METHODS, faults);
    let payment_object = members.one_of("payment_object", &OBJECTS, faults);
    let seller = match members.optional("seller") {
        Some(value) => seller(value, &members.at("seller"), faults).map(Some),
        None => Some(None),
    };
    if let (Some(price), Some(quantity), Some(sum)) = (price, quantity, sum)
        && quantity.times(price) != i128::from(sum)
    {
        faults.add(members.at("sum"), "price × quantity, rounded half up");
        members.close(faults);
        return None;
    }
    members.close(faults);
    Some(Item {
        name: name?,
        sku: sku?,
        price: price?,
        quantity: quantity?,
        sum: sum?,
        vat: vat?,
        payment_method: payment_method?,
        payment_object: payment_object?,
        seller: seller?,
    })
}

fn seller(value: &Value, at: &str, faults: &mut Faults) -> Option<Seller> {
    let mut members = Members::new(value, at, faults)?;
    let inn = members.text("inn", INN, faults, is_inn);
    let name = members.text("name", NAME, faults, is_name);
    members.close(faults);
    Some(Seller { inn: inn?, name: name? })
}

fn payment(value: &Value, n: usize, faults: &mut Faults) -> Option<Payment> {
    let mut members = Members::new(value, &format!("/payments/{n}"), faults)?;
    let kind = members.one_of("type", &PAYMENTS, faults);
    let sum = members.kopecks("sum", 1, faults);
    members.close(faults);
    Some(Payment { kind: kind?, sum: sum? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-24 00:00 UTC);
    const VALID: &str = include_str!("../../../tests/end-to-end/receipts/valid.ndjson");
    const INVALID: &str = include_str!("../../../tests/end-to-end/receipts/invalid.ndjson");

    #[test]
    fn every_valid_receipt_is_read_and_read_back_the_same() {
        assert_eq!(VALID.lines().count(), 500);
        for line in VALID.lines() {
            let receipt = parse(line.as_bytes(), NOW).unwrap_or_else(|refusal| panic!("{refusal}"));
            let again = parse(receipt.to_json().as_bytes(), NOW).unwrap();
            assert_eq!(again.content_hash(), receipt.content_hash());
        }
    }

    #[test]
    fn every_invalid_body_is_refused_at_its_places() {
        assert_eq!(INVALID.lines().count(), 45);
        for line in INVALID.lines() {
            let given: Value = serde_json::from_str(line).unwrap();
            let refusal = parse(given["body"].as_str().unwrap().as_bytes(), NOW).unwrap_err();
            match (given["status"].as_u64().unwrap(), &refusal) {
                (400, Refusal::NotJson { .. }) => {}
                (422, Refusal::Faults(faults)) => {
                    for pointer in given["pointers"].as_array().into_iter().flatten() {
                        assert!(
                            faults.iter().any(|fault| fault.pointer == pointer.as_str().unwrap()),
                            "{}: {faults:?}",
                            given["why"]
                        );
                    }
                }
                _ => panic!("{}: {refusal:?}", given["why"]),
            }
        }
    }

    #[test]
    fn how_it_is_written_makes_no_difference() {
        let receipt = VALID
            .lines()
            .find(|line| line.contains(r#""quantity": "1""#) && line.contains("+03:00"))
            .unwrap();
        let value: Value = serde_json::from_str(receipt).unwrap();
        let hash = |text: &str| parse(text.as_bytes(), NOW).unwrap().content_hash();
        let other = serde_json::to_string_pretty(&value)
            .unwrap()
            .replace(r#""quantity": "1""#, r#""quantity": "1.00""#);
        assert_eq!(hash(receipt), hash(&other));
        let mut changed = value.clone();
        changed["merchant"]["payment_address"] = "https://elsewhere.example".into();
        assert_ne!(hash(receipt), hash(&changed.to_string()));
    }

    #[test]
    fn debug_shows_no_personal_data() {
        let shown = format!("{:?}", parse(VALID.lines().next().unwrap().as_bytes(), NOW).unwrap());
        assert!(!shown.contains('@') && !shown.contains("7937164875"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body, NOW);
        }

        #[test]
        fn no_amount_makes_it_panic(price: i64, sum: i64, total: i64) {
            let line = VALID.lines().nth(1).unwrap();
            let mut value: Value = serde_json::from_str(line).unwrap();
            value["items"][0]["price"] = price.into();
            value["items"][0]["sum"] = sum.into();
            value["total"] = total.into();
            prop_assert!(parse(value.to_string().as_bytes(), NOW).is_err());
        }
    }
}
