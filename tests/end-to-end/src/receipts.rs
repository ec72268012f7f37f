//! Receipts to post.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// A file of `tests/end-to-end/receipts`.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("receipts").join(name)
}

/// Reads receipts, one a line.
///
/// # Errors
/// When the file cannot be read, or a line is no JSON.
pub fn read(path: &Path) -> anyhow::Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(n, line)| serde_json::from_str(line).with_context(|| format!("{}:{}: not JSON", path.display(), n + 1)))
        .collect()
}

/// `count` receipts from `templates`, over and over, with external ids that nobody has used: `<run>-<round>-<its own>`,
/// at most 128 characters. What refunds refer to stays. An operation that lies ahead of the clock is moved to now, a
/// deadline that has passed, or nearly, to a month from now: the files may be older than today.
#[must_use]
pub fn fresh(templates: &[Value], count: usize) -> Vec<Value> {
    let run = &uuid::Uuid::new_v4().simple().to_string()[..8];
    let now = OffsetDateTime::now_utc();
    let rounds = templates.iter().cycle().take(count).enumerate();
    rounds
        .map(|(n, template)| {
            let mut receipt = template.clone();
            let own = template.get("external_id").and_then(Value::as_str).unwrap_or_default();
            let id: String = format!("{run}-{}-{own}", n / templates.len())
                .chars()
                .take(128)
                .collect();
            receipt["external_id"] = Value::from(id);
            move_instant(&mut receipt, "operation_time", |at| at > now, now);
            move_instant(
                &mut receipt,
                "deadline",
                |at| at < now + Duration::hours(2),
                now + Duration::days(30),
            );
            receipt
        })
        .collect()
}

/// `count` fresh receipts with sellers: they call every target there is.
///
/// # Errors
/// When the fixture cannot be read.
pub fn receipts_with_sellers(count: usize) -> anyhow::Result<Vec<Value>> {
    let has_seller = |receipt: &Value| {
        let items = receipt["items"].as_array();
        items.is_some_and(|items| items.len() < 10 && items.iter().any(|item| item["seller"].is_object()))
    };
    let mut templates = read(&fixture("valid.ndjson"))?;
    templates.retain(has_seller);
    templates.truncate(count);
    Ok(fresh(&templates, count))
}

fn move_instant(receipt: &mut Value, key: &str, stale: impl Fn(OffsetDateTime) -> bool, to: OffsetDateTime) {
    let at = receipt
        .get(key)
        .and_then(Value::as_str)
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    let to = to.replace_nanosecond(0).unwrap_or(to).format(&Rfc3339);
    if let (Some(true), Ok(to)) = (at.map(stale), to) {
        receipt[key] = Value::from(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_fresh_and_references_stay() {
        let templates = read(&fixture("valid.ndjson")).unwrap();
        let receipts = fresh(&templates, 1100);
        let ids: std::collections::BTreeSet<_> = receipts
            .iter()
            .map(|receipt| receipt["external_id"].to_string())
            .collect();
        assert_eq!(ids.len(), 1100);
        for (receipt, template) in receipts.iter().zip(templates.iter().cycle()) {
            assert_eq!(
                receipt.get("original_external_id"),
                template.get("original_external_id")
            );
            assert_eq!(receipt["items"], template["items"]);
        }
    }

    #[test]
    fn a_passed_deadline_is_moved() {
        let old = serde_json::json!({"external_id": "a", "deadline": "2001-01-01T00:00:00Z"});
        let receipt = &fresh(&[old], 1)[0];
        let deadline = OffsetDateTime::parse(receipt["deadline"].as_str().unwrap(), &Rfc3339).unwrap();
        assert!(deadline > OffsetDateTime::now_utc() + Duration::days(29));
    }
}
