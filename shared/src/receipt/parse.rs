//! From a body to a receipt, or to every fault of it. The rules are those of the contract's section on the receipt.

use time::{Duration, OffsetDateTime};

use super::faults::{Faults, Place, Refusal};
use super::inn::is_inn;
use super::json::{self, Json};
use super::members::Members;
use super::model::{Customer, Item, Merchant, Payment, Receipt, Seller};
use super::money::{MOST_TOTAL, Quantity};
use super::names::ReceiptType;

/// How far ahead of `now` an operation may be: clocks differ.
const AHEAD: Duration = Duration::minutes(5);
const MOST_ITEMS: usize = 250;
const MOST_PAYMENTS: usize = 10;
/// The longest address that mail can be sent to, in bytes (RFC 5321).
const MOST_EMAIL: usize = 254;

const ID: &str = "must be 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-'";
const NAME: &str = "must be a text of 1 to 128 characters";
const ADDRESS: &str = "must be a text of 1 to 256 characters";
const INN: &str = "must be a text of 10 or 12 digits with right check digits";
const QUANTITY: &str =
    "must be a decimal in a text, more than 0, at most six places, at most ten digits before the point";
const EMAIL: &str = "must be one address like name@example.org, at most 254 bytes";
const PHONE: &str = "must be a text of + and 10 to 15 digits";

/// Reads a receipt; `now` is what its time of operation is compared with.
///
/// The body is read once; its size is for the caller to bound.
///
/// # Errors
/// [`Refusal::NotJson`], or [`Refusal::Faults`] with every fault. What follows from another fault is left out: an
/// item's wrong price is not also a wrong total. Of an array that is too long, the elements beyond are not judged.
pub fn parse(body: &[u8], now: OffsetDateTime) -> Result<Receipt, Refusal> {
    let json = json::read(body)?;
    let mut faults = Faults::default();
    json::inspect(&json, &Place::Root, &mut faults);
    let receipt = receipt(&json, now, &mut faults);
    faults.or(receipt)
}

fn receipt(json: &Json<'_>, now: OffsetDateTime, faults: &mut Faults) -> Option<Receipt> {
    let known = [
        "external_id",
        "merchant",
        "type",
        "operation_time",
        "customer",
        "items",
        "payments",
        "total",
        "original_external_id",
        "deadline",
    ];
    let mut members = Members::of(json, &known, &Place::Root, faults)?;
    let external_id = members.string("external_id", NAME, is_name);
    let merchant = members.object("merchant", merchant);
    let kind = members.word::<ReceiptType>("type");
    let operation_time = members.time("operation_time");
    if operation_time.is_some_and(|time| time - now > AHEAD) {
        members.fault("operation_time", "must be at most five minutes in the future");
    }
    let customer = members.object("customer", customer);
    let items = members.list("items", MOST_ITEMS, item);
    let payments = members.list("payments", MOST_PAYMENTS, payment);
    let total = members.amount("total", 1, MOST_TOTAL);
    add_up(&mut members, items.as_deref(), payments.as_deref(), total);
    let original_external_id = original(&mut members, kind);
    if external_id.is_some() && original_external_id.as_ref() == Some(&external_id) {
        members.fault("original_external_id", "must be another receipt");
    }
    let deadline = members.optional("deadline", Members::time);
    Some(Receipt {
        external_id: external_id?,
        merchant: merchant?,
        kind: kind?,
        operation_time: operation_time?,
        customer: customer?,
        items: items?.into_iter().map(|item| item.whole).collect::<Option<_>>()?,
        payments: payments?
            .into_iter()
            .map(|payment| payment.whole)
            .collect::<Option<_>>()?,
        total: total?,
        original_external_id: original_external_id?,
        deadline: deadline?,
    })
}

/// Something with a sum, of which the sum may be good while the rest is not.
struct Summed<T> {
    sum: Option<i64>,
    whole: Option<T>,
}

/// What all of them add up to, if every sum is good.
fn sum<T>(all: &[Summed<T>]) -> Option<i128> {
    all.iter().map(|one| one.sum.map(i128::from)).sum()
}

/// Items and payments each add up to the total. When both say the same and the total another, it is the total's fault.
fn add_up(
    members: &mut Members<'_>,
    items: Option<&[Summed<Item>]>,
    payments: Option<&[Summed<Payment>]>,
    total: Option<i64>,
) {
    let Some(total) = total.map(i128::from) else { return };
    let (items, payments) = (items.and_then(sum), payments.and_then(sum));
    if items.is_some_and(|items| items != total) {
        members.fault("total", "must be what the sums of the items add up to");
    }
    if payments.is_some_and(|payments| payments != total) && payments != items {
        members.fault("payments", "their sums must add up to the total");
    }
}

/// Required for refunds, else absent, also for corrections. While the type is unknown, only its form is judged.
#[expect(
    clippy::option_option,
    reason = "absent is no fault: the outer one says whether it could be read"
)]
fn original(members: &mut Members<'_>, kind: Option<ReceiptType>) -> Option<Option<String>> {
    const NAME_OF: &str = "original_external_id";
    let string = |members: &mut Members<'_>, name: &str| members.string(name, NAME, is_name);
    match kind.map(ReceiptType::is_refund) {
        Some(true) => string(members, NAME_OF).map(Some),
        Some(false) if members.has(NAME_OF) => {
            members.fault(NAME_OF, "must be absent: only a refund has an original");
            None
        }
        _ => members.optional(NAME_OF, string),
    }
}

fn merchant(json: &Json<'_>, place: &Place<'_>, faults: &mut Faults) -> Option<Merchant> {
    let mut members = Members::of(
        json,
        &["id", "inn", "group", "tax_system", "payment_address"],
        place,
        faults,
    )?;
    let id = members.string("id", ID, is_id);
    let inn = members.string("inn", INN, is_inn);
    let group = members.string("group", ID, is_id);
    let tax_system = members.word("tax_system");
    let payment_address = members.string("payment_address", ADDRESS, |text| has_characters(text, 256));
    Some(Merchant {
        id: id?,
        inn: inn?,
        group: group?,
        tax_system: tax_system?,
        payment_address: payment_address?,
    })
}

fn customer(json: &Json<'_>, place: &Place<'_>, faults: &mut Faults) -> Option<Customer> {
    let mut members = Members::of(json, &["email", "phone"], place, faults)?;
    let email = members.optional("email", |members, name| members.string(name, EMAIL, is_email));
    let phone = members.optional("phone", |members, name| members.string(name, PHONE, is_phone));
    if email == Some(None) && phone == Some(None) {
        faults.add(place, "must have an email or a phone");
        return None;
    }
    Some(Customer {
        email: email?,
        phone: phone?,
    })
}

fn item(json: &Json<'_>, place: &Place<'_>, faults: &mut Faults) -> Summed<Item> {
    let known = [
        "name",
        "sku",
        "price",
        "quantity",
        "sum",
        "vat",
        "payment_method",
        "payment_object",
        "seller",
    ];
    let Some(mut members) = Members::of(json, &known, place, faults) else {
        return Summed { sum: None, whole: None };
    };
    let name = members.string("name", NAME, is_name);
    let sku = members.string("sku", ID, is_id);
    let price = members.amount("price", 0, i64::MAX);
    let quantity = members.text("quantity", QUANTITY, Quantity::read);
    let sum = members.amount("sum", 0, i64::MAX);
    let vat = members.word("vat");
    let payment_method = members.word("payment_method");
    let payment_object = members.word("payment_object");
    let seller = members.optional("seller", |members, name| members.object(name, seller));
    let right = match (price, quantity, sum) {
        (Some(price), Some(quantity), Some(sum)) => {
            let right = quantity.times(price) == i128::from(sum);
            if !right {
                members.fault("sum", "must be price × quantity, rounded half up");
            }
            right
        }
        _ => false,
    };
    let whole = || {
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
    };
    Summed {
        sum: sum.filter(|_| right),
        whole: whole(),
    }
}

fn seller(json: &Json<'_>, place: &Place<'_>, faults: &mut Faults) -> Option<Seller> {
    let mut members = Members::of(json, &["inn", "name"], place, faults)?;
    let inn = members.string("inn", INN, is_inn);
    let name = members.string("name", NAME, is_name);
    Some(Seller { inn: inn?, name: name? })
}

fn payment(json: &Json<'_>, place: &Place<'_>, faults: &mut Faults) -> Summed<Payment> {
    let Some(mut members) = Members::of(json, &["type", "sum"], place, faults) else {
        return Summed { sum: None, whole: None };
    };
    let kind = members.word("type");
    let sum = members.amount("sum", 1, i64::MAX);
    let whole = kind.zip(sum).map(|(kind, sum)| Payment { kind, sum });
    Summed { sum, whole }
}

/// Whether `text` has 1 to `most` characters, however many bytes each takes.
fn has_characters(text: &str, most: usize) -> bool {
    !text.is_empty() && (text.len() <= most || text.chars().count() <= most)
}

fn is_name(text: &str) -> bool {
    has_characters(text, 128)
}

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|letter| letter.is_ascii_alphanumeric() || b"._-".contains(&letter))
}

/// One `@` with something on both sides and no white space: whether mail arrives is not for a receipt to know.
fn is_email(text: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && !part
                .chars()
                .any(|letter| letter == '@' || letter.is_whitespace() || letter.is_control())
    };
    text.len() <= MOST_EMAIL
        && text
            .split_once('@')
            .is_some_and(|(name, domain)| plain(name) && plain(domain))
}

fn is_phone(text: &str) -> bool {
    text.strip_prefix('+')
        .is_some_and(|digits| (10..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit()))
}
