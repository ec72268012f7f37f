//! One rule at a time: the sample with one change, and the places where it is then refused.

use serde_json::json;

use super::*;

/// The sample with `value` at `pointer`, whose last member may be new.
fn with(pointer: &str, value: Value) -> Value {
    let mut receipt = sample();
    let (above, name) = pointer.rsplit_once('/').unwrap();
    match receipt.pointer_mut(above).unwrap() {
        Value::Array(elements) => elements[name.parse::<usize>().unwrap()] = value,
        object => object[name] = value,
    }
    receipt
}

#[test]
fn what_breaks_a_rule_is_refused_there() {
    for (pointer, value) in [
        ("/external_id", json!("я".repeat(129))),
        ("/external_id", json!(1)),
        ("/merchant", json!([])),
        ("/merchant/id", json!("a".repeat(65))),
        ("/merchant/group", json!("ж")),
        ("/merchant/payment_address", json!("")),
        ("/merchant/payment_address", json!("x".repeat(257))),
        ("/merchant/colour", json!(null)),
        ("/type", json!("Income")),
        ("/operation_time", json!("2026-11-23T12:05:01Z")),
        ("/operation_time", json!("2026-11-23T12:00:00")),
        ("/operation_time", json!(1_764_000_000)),
        ("/customer/phone", json!(null)),
        ("/deadline", json!(null)),
        ("/deadline", json!("9999-12-31T23:59:59-01:00")),
        ("/customer", json!({})),
        ("/customer/phone", json!("+123456789")),
        ("/customer/phone", json!("+1234567890123456")),
        ("/customer/email", json!("a b@example.org")),
        ("/customer/email", json!("@example.org")),
        ("/items", json!({})),
        ("/items/0", json!("x")),
        ("/items/0/price", json!(1.0)),
        ("/items/0/price", json!(u64::MAX)),
        ("/items/0/quantity", json!("1e0")),
        ("/items/0/sum", json!(12344)),
        ("/items/0/seller", json!(null)),
        ("/items/0/seller/kpp", json!("1")),
        ("/payments/0/type", json!("card")),
        ("/payments/0/sum", json!(0)),
        ("/payments/0/sum", json!("12345")),
        ("/total", json!(12346)),
        ("/total", json!(10_000_000_000_i64)),
        ("/original_external_id", json!("x")),
    ] {
        assert_eq!(pointers(read(&with(pointer, value))), [pointer], "{pointer}");
    }
}

#[test]
fn an_unknown_member_is_named_by_rfc_6901() {
    let mut receipt = sample();
    receipt["a/b~c"] = json!(1);
    assert_eq!(pointers(read(&receipt)), ["/a~1b~0c"]);
}

#[test]
fn what_keeps_the_rules_is_accepted() {
    for (pointer, value) in [
        ("/external_id", json!("я".repeat(128))),
        ("/merchant/payment_address", json!("ж".repeat(256))),
        ("/operation_time", json!("2026-11-23T12:05:00Z")),
        ("/operation_time", json!("2026-11-23T15:05:00.000+03:00")),
        ("/deadline", json!("9999-12-31T23:59:59Z")),
        ("/customer", json!({"phone": "+1234567890"})),
        ("/customer/phone", json!("+123456789012345")),
        ("/items/0/quantity", json!("1.000000")),
        ("/items/0/quantity", json!("0.99996")),
        ("/type", json!("expense_correction")),
    ] {
        let outcome = read(&with(pointer, value));
        assert!(outcome.is_ok(), "{pointer}: {outcome:?}");
    }
}

#[test]
fn every_missing_member_is_named_where_it_should_be() {
    let whole = sample();
    for (above, optional) in [
        ("", "deadline"),
        ("/merchant", ""),
        ("/items/0", "seller"),
        ("/items/0/seller", ""),
        ("/payments/0", ""),
    ] {
        for name in whole
            .pointer(above)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| *name != optional)
        {
            let mut receipt = whole.clone();
            receipt
                .pointer_mut(above)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(name);
            assert_eq!(pointers(read(&receipt)), [format!("{above}/{name}")]);
        }
    }
    assert_eq!(pointers(read(&json!({}))).len(), 8);
    assert_eq!(pointers(read(&json!([]))), [""]);
}

#[test]
fn a_refund_names_its_original_and_a_correction_does_not() {
    for (kind, original, good) in [
        ("income_refund", json!("x"), true),
        ("income_refund", json!(""), false),
        ("income_refund", sample()["external_id"].clone(), false),
        ("expense_refund", json!("ж".repeat(129)), false),
        ("income_correction", json!("x"), false),
    ] {
        let mut receipt = with("/type", kind.into());
        receipt["original_external_id"] = original;
        let expected: &[&str] = if good { &[] } else { &["/original_external_id"] };
        assert_eq!(pointers(read(&receipt)), expected, "{kind}");
    }
}

#[test]
fn all_faults_are_told_at_once_and_none_that_only_follows() {
    let mut receipt = sample();
    receipt["type"] = "sell".into();
    receipt["original_external_id"] = "x".into();
    receipt["items"][0]["price"] = json!(0.5);
    receipt["items"][0]["vat"] = "vat18".into();
    receipt["payments"][0]["sum"] = 1.into();
    receipt["total"] = 7.into();
    assert_eq!(
        pointers(read(&receipt)),
        ["/type", "/items/0/price", "/items/0/vat", "/payments"]
    );
    // An item whose sum is good is counted, whatever else is wrong with it.
    receipt["items"][0]["price"] = 12345.into();
    assert_eq!(
        pointers(read(&receipt)),
        ["/type", "/items/0/vat", "/total", "/payments"]
    );
}

#[test]
fn sums_do_not_overflow() {
    let mut receipt = sample();
    receipt["payments"] = json!([{"type": "cash", "sum": i64::MAX}, {"type": "cash", "sum": i64::MAX}]);
    assert_eq!(pointers(read(&receipt)), ["/payments"]);
    receipt["items"][0]["price"] = i64::MAX.into();
    receipt["items"][0]["quantity"] = "9999999999.999999".into();
    assert_eq!(pointers(read(&receipt)), ["/items/0/sum", "/payments"]);
}

#[test]
fn a_member_given_twice_is_refused_there() {
    let body = sample().to_string();
    let twice = body.replacen(r#""total":12345"#, r#""total":12345,"total":12345"#, 1);
    assert_ne!(body, twice);
    assert_eq!(pointers(parse(twice.as_bytes(), NOW)), ["/total"]);
}
