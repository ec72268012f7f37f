//! Reads an object's members and remembers what was wrong, and where.

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::faults::Fault;

/// The faults found so far.
#[derive(Default)]
pub(super) struct Faults(pub Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Fault {
            pointer: pointer.into(),
            detail: detail.into(),
        });
    }
}

/// An object at its place; what was not asked for by the end is unknown.
pub(super) struct Members<'a> {
    at: String,
    object: &'a Map<String, Value>,
    asked: Vec<&'static str>,
}

/// A reference token of RFC 6901.
fn token(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Refuses U+0000 in every string and name below `value`.
pub(super) fn refuse_nul(value: &Value, at: &str, faults: &mut Faults) {
    match value {
        Value::String(text) if text.contains('\0') => faults.add(at, "U+0000 is not allowed"),
        Value::Array(values) => {
            for (n, value) in values.iter().enumerate() {
                refuse_nul(value, &format!("{at}/{n}"), faults);
            }
        }
        Value::Object(object) => {
            for (name, value) in object {
                refuse_nul(value, &format!("{at}/{}", token(name)), faults);
            }
        }
        _ => {}
    }
}

impl<'a> Members<'a> {
    pub(super) fn new(value: &'a Value, at: &str, faults: &mut Faults) -> Option<Self> {
        if let Value::Object(object) = value {
            return Some(Self {
                at: at.to_owned(),
                object,
                asked: Vec::new(),
            });
        }
        faults.add(at, "an object is needed");
        None
    }

    pub(super) fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.at)
    }

    pub(super) fn optional(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.push(name);
        self.object.get(name)
    }

    pub(super) fn needed(&mut self, name: &'static str, faults: &mut Faults) -> Option<&'a Value> {
        let value = self.optional(name);
        if value.is_none() {
            faults.add(self.at(name), "is missing");
        }
        value
    }

    /// A text that `good` accepts; `rule` says what that is.
    pub(super) fn text(
        &mut self,
        name: &'static str,
        rule: &str,
        faults: &mut Faults,
        good: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let value = self.needed(name, faults)?;
        match value.as_str() {
            Some(text) if good(text) => Some(text.to_owned()),
            _ => {
                faults.add(self.at(name), rule);
                None
            }
        }
    }

    pub(super) fn one_of(&mut self, name: &'static str, known: &[&str], faults: &mut Faults) -> Option<String> {
        self.text(name, &format!("one of {}", known.join(", ")), faults, |text| {
            known.contains(&text)
        })
    }

    /// A whole number of kopecks within bounds.
    pub(super) fn kopecks(&mut self, name: &'static str, least: i64, faults: &mut Faults) -> Option<i64> {
        let value = self.needed(name, faults)?;
        match value.as_i64() {
            Some(amount) if (least..=MOST).contains(&amount) => Some(amount),
            _ => {
                faults.add(
                    self.at(name),
                    format!("a whole number of kopecks from {least} to {MOST}"),
                );
                None
            }
        }
    }

    pub(super) fn list(&mut self, name: &'static str, most: usize, faults: &mut Faults) -> Option<&'a [Value]> {
        let value = self.needed(name, faults)?;
        match value.as_array() {
            Some(values) if (1..=most).contains(&values.len()) => Some(values),
            _ => {
                faults.add(self.at(name), format!("an array of 1 to {most}"));
                None
            }
        }
    }

    pub(super) fn time(&self, name: &'static str, value: &Value, faults: &mut Faults) -> Option<OffsetDateTime> {
        let time = value
            .as_str()
            .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        if time.is_none() {
            faults.add(self.at(name), "a time by RFC 3339");
        }
        time
    }

    /// Refuses what nobody asked for.
    pub(super) fn close(self, faults: &mut Faults) {
        for name in self.object.keys().filter(|name| !self.asked.contains(&name.as_str())) {
            faults.add(format!("{}/{}", self.at, token(name)), "is not known");
        }
    }
}

/// The largest amount: the largest `total`.
const MOST: i64 = 9_999_999_999;

pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|letter| letter.is_ascii_alphanumeric() || b"._-".contains(&letter))
}

pub(super) fn is_name(text: &str) -> bool {
    (1..=128).contains(&text.chars().count())
}
