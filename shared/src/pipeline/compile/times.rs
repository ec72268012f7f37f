//! Delays, budgets and durations.

use std::time::Duration;

use toml::Value;

use crate::pipeline::mistakes::Found;
use crate::pipeline::{Backoff, definition};

pub(super) fn backoff(place: &str, value: Option<&Value>, base: Backoff, found: &mut Found) -> Backoff {
    match value {
        None => base,
        Some(Value::Table(table)) => match found.read(place, table) {
            Some(given) => fill(place, given, base, found),
            None => base,
        },
        Some(_) => {
            found.add(place, "a table is needed");
            base
        }
    }
}

pub(super) fn fill(place: &str, given: definition::Retry, base: Backoff, found: &mut Found) -> Backoff {
    let mut read = |key: &str, text: Option<String>, base: Duration| {
        text.and_then(|text| duration(&format!("{place}.{key}"), &text, found))
            .unwrap_or(base)
    };
    let (first, max, budget) = (
        read("first", given.first, base.first),
        read("max", given.max, base.max),
        read("budget", given.budget, base.budget),
    );
    let factor = given.factor.unwrap_or(base.factor);
    if !(1.0..=100.0).contains(&factor) {
        found.add(&format!("{place}.factor"), "1 to 100");
    }
    let repeats = given.repeats.unwrap_or(base.repeats);
    if repeats == 0 {
        found.add(&format!("{place}.repeats"), "at least 1");
    }
    Backoff {
        first,
        factor,
        max,
        budget,
        repeats,
    }
}

pub(super) fn duration(place: &str, text: &str, found: &mut Found) -> Option<Duration> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Some(duration),
        _ => {
            found.add(
                place,
                format!("{text:?} is not a duration such as \"10s\", \"5m\" or \"72h\""),
            );
            None
        }
    }
}
