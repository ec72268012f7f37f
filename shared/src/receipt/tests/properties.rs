//! What holds for every body.

use proptest::prelude::*;
use time::UtcOffset;
use time::format_description::well_known::Rfc3339;

use super::*;

/// Any JSON of some depth, with the names of receipts in it.
fn any_json() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "external_id",
            "merchant",
            "inn",
            "items",
            "payments",
            "sum",
            "price",
            "total",
            "type"
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Every place in `value`.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Array(elements) => {
            for (n, element) in elements.iter().enumerate() {
                places(element, format!("{at}/{n}"), found);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                places(member, format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

/// The same JSON with the members of every object the other way round and other white space.
fn respelled(value: &Value) -> String {
    match value {
        Value::Array(elements) => {
            format!(
                "[\n{} ]",
                elements.iter().map(respelled).collect::<Vec<_>>().join(" ,\t")
            )
        }
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| format!("{} : {}", Value::from(name.as_str()), respelled(value));
            format!(
                "{{ {}\r\n}}",
                members.iter().rev().map(member).collect::<Vec<_>>().join(",")
            )
        }
        value => value.to_string(),
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&body, NOW);
    }

    #[test]
    fn no_cut_makes_it_panic(line in 0usize..500, cut in 0usize..2000) {
        let body = VALID.lines().nth(line).unwrap().as_bytes();
        if cut < body.len() {
            let cut_off = matches!(parse(&body[..cut], NOW), Err(Refusal::NotJson { .. }));
            prop_assert!(cut_off);
        }
    }

    #[test]
    fn no_json_makes_it_panic(json in any_json()) {
        prop_assert!(!pointers(read(&json)).is_empty());
    }

    #[test]
    fn anything_anywhere_is_refused_or_read_back(json in any_json(), at: prop::sample::Index) {
        let mut receipt = sample();
        let mut all = Vec::new();
        places(&receipt, String::new(), &mut all);
        *receipt.pointer_mut(at.get::<String>(&all)).unwrap() = json;
        match read(&receipt) {
            Ok(read) => prop_assert_eq!(parse(read.to_json().as_bytes(), NOW).unwrap().content_hash(), read.content_hash()),
            Err(Refusal::Faults(faults)) => prop_assert!(!faults.is_empty()),
            Err(Refusal::NotJson { detail }) => prop_assert!(false, "{}", detail),
        }
    }

    #[test]
    fn spelling_is_not_content(line in 0usize..500, minutes in -14 * 60..14 * 60) {
        let value: Value = serde_json::from_str(VALID.lines().nth(line).unwrap()).unwrap();
        let mut other = value.clone();
        let offset = UtcOffset::from_whole_seconds(minutes * 60).unwrap();
        let time = OffsetDateTime::parse(value["operation_time"].as_str().unwrap(), &Rfc3339).unwrap();
        other["operation_time"] = time.to_offset(offset).format(&Rfc3339).unwrap().into();
        for item in other["items"].as_array_mut().unwrap() {
            let quantity = item["quantity"].as_str().unwrap();
            let (whole, fraction) = quantity.split_once('.').unwrap_or((quantity, ""));
            item["quantity"] = format!("{whole}.{fraction:0<6}").into();
        }
        let hash = |body: &str| parse(body.as_bytes(), NOW).unwrap().content_hash();
        prop_assert_eq!(hash(&value.to_string()), hash(&respelled(&other)));
    }

    #[test]
    fn every_other_text_is_other_content(place in 0usize..6, text in "[a-z]{1,20}") {
        let mut receipt = sample();
        let pointer = ["/external_id", "/merchant/id", "/merchant/group", "/items/0/name", "/items/0/sku", "/items/0/seller/name"][place];
        let before = receipt.pointer(pointer).unwrap().clone();
        *receipt.pointer_mut(pointer).unwrap() = text.into();
        prop_assume!(before != *receipt.pointer(pointer).unwrap());
        prop_assert_ne!(read(&receipt).unwrap().content_hash(), read(&sample()).unwrap().content_hash());
    }

    #[test]
    fn sums_are_judged_exactly(price in 0i64..2_000_000, millionths in 1u64..3_000_000_000, off in -1i64..=1) {
        let exact = (i128::from(price) * i128::from(millionths) * 2 + 1_000_000) / 2_000_000;
        let right = i64::try_from(exact).unwrap();
        prop_assume!(right > 1);
        let sum = right + off;
        let mut receipt = sample();
        receipt["items"][0]["price"] = price.into();
        receipt["items"][0]["quantity"] = format!("{}.{:06}", millionths / 1_000_000, millionths % 1_000_000).into();
        receipt["items"][0]["sum"] = sum.into();
        receipt["payments"][0]["sum"] = sum.into();
        receipt["total"] = sum.into();
        let expected: &[&str] = if off == 0 { &[] } else { &["/items/0/sum"] };
        prop_assert_eq!(pointers(read(&receipt)), expected);
    }
}
