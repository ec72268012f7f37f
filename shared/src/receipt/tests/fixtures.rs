//! The receipts that every program of the project is tested with.

use super::*;

#[test]
fn every_valid_receipt_is_read_and_read_back() {
    assert_eq!(VALID.lines().count(), 500);
    for line in VALID.lines() {
        let receipt = parse(line.as_bytes(), NOW).unwrap_or_else(|refusal| panic!("{refusal}"));
        let again = parse(receipt.to_json().as_bytes(), NOW).unwrap();
        assert_eq!(again, receipt);
        assert_eq!(again.content_hash(), receipt.content_hash());
        assert_eq!(again.to_json(), receipt.to_json());
    }
}

#[test]
fn no_two_valid_receipts_are_the_same() {
    let hashes: std::collections::HashSet<_> = VALID
        .lines()
        .map(|line| parse(line.as_bytes(), NOW).unwrap().content_hash())
        .collect();
    assert_eq!(hashes.len(), 500);
}

#[test]
fn every_invalid_body_is_refused_at_its_places() {
    assert_eq!(INVALID.lines().count(), 45);
    for line in INVALID.lines() {
        let given: Value = serde_json::from_str(line).unwrap();
        let refusal = parse(given["body"].as_str().unwrap().as_bytes(), NOW).unwrap_err();
        let (status, places) = match &refusal {
            Refusal::NotJson { .. } => (400, Vec::new()),
            Refusal::Faults(faults) => (422, faults.iter().map(|fault| fault.pointer.as_str()).collect()),
        };
        assert_eq!(given["status"], status, "{}", given["why"]);
        let Some(expected) = given["pointers"].as_array() else {
            continue;
        };
        for pointer in expected {
            assert!(
                places.contains(&pointer.as_str().unwrap()),
                "{}: {refusal}",
                given["why"]
            );
        }
        // One mistake is one fault, save where the fixture makes more of them.
        if expected.len() == 1 {
            assert_eq!(places.len(), 1, "{}: {refusal}", given["why"]);
        }
    }
}

#[test]
fn the_json_has_the_shape_it_was_given_in() {
    let mut given = sample();
    assert_eq!(
        serde_json::from_str::<Value>(&read(&given).unwrap().to_json()).unwrap(),
        given
    );
    given["items"][0]["quantity"] = "1.000".into();
    let json: Value = serde_json::from_str(&read(&given).unwrap().to_json()).unwrap();
    assert_eq!(json["items"][0]["quantity"], "1");
    assert_eq!(json["operation_time"], "2026-11-23T12:00:00+03:00");
    assert!(json.get("original_external_id").is_none() && json["customer"].get("phone").is_none());
}

#[test]
fn nothing_printed_shows_personal_data() {
    let shown = format!("{:?}", read(&sample()).unwrap());
    for personal in ["a@example.org", "3914177768", "391417776386", "Seller\""] {
        assert!(!shown.contains(personal), "{shown}");
    }
    let mut wrong = sample();
    wrong["customer"] = serde_json::json!({"email": "ivan ivanov", "phone": "89161234567"});
    wrong["merchant"]["inn"] = "3914177769".into();
    let shown = format!("{:?}", read(&wrong).unwrap_err());
    for personal in ["ivan", "8916", "39141"] {
        assert!(!shown.contains(personal), "{shown}");
    }
}
