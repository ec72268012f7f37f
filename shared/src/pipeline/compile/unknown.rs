//! `unknown`, `window` and `lookup` of a request that registers.

use std::time::Duration;

use toml::{Table, Value};

use super::Context;
use super::requests::request;
use super::times::duration;
use crate::pipeline::request::Then;
use crate::pipeline::{Effect, Lookup, To, Unknown};

/// How long "absent" is not believed where it is not said.
const SETTLE: Duration = Duration::from_mins(1);
/// What a look-up cannot have: it is made by itself, once.
const NOT_THERE: [&str; 6] = ["service", "effect", "when", "for_each", "unknown", "lookup"];

/// What was given of the three.
pub(super) struct Given(pub Option<String>, pub Option<String>, pub Option<Table>);

/// What is done before a call of this request is made again that nobody knows about. `name` is the request's.
pub(super) fn unknown(
    (stage, name): (&str, &str),
    given: Given,
    (to, effect): (&To, Effect),
    context: &mut Context<'_>,
) -> Unknown {
    let place = format!("{stage}.{name}");
    let at = |key: &str| format!("{place}.{key}");
    let Given(unknown, window, lookup) = given;
    let given = [
        ("unknown", unknown.is_some()),
        ("window", window.is_some()),
        ("lookup", lookup.is_some()),
    ];
    for (key, _) in given.iter().filter(|(_, given)| *given && effect != Effect::Registers) {
        context.found.add(&at(key), "only of a request that registers");
    }
    let kind = unknown
        .as_deref()
        .unwrap_or(if lookup.is_some() { "lookup" } else { "resend" });
    if window.is_some() && kind != "resend" {
        context.found.add(&at("window"), "only what is resent has a window");
    }
    match (kind, lookup) {
        ("resend", None) => Unknown::Resend {
            window: window.and_then(|text| duration(&at("window"), &text, context.found)),
        },
        ("manual", None) => Unknown::Manual,
        ("lookup", Some(table)) => match self::lookup(stage, name, table, to, context) {
            Some(lookup) => Unknown::Lookup(Box::new(lookup)),
            None => Unknown::Manual,
        },
        ("lookup", None) => {
            context
                .found
                .add(&at("lookup"), "the request that looks it up is missing");
            Unknown::Manual
        }
        ("resend" | "manual", Some(_)) => {
            context.found.add(&at("lookup"), "only where `unknown` is \"lookup\"");
            Unknown::Manual
        }
        _ => {
            context
                .found
                .add(&at("unknown"), "\"resend\", \"lookup\" or \"manual\"");
            Unknown::Manual
        }
    }
}

fn lookup(stage: &str, name: &str, mut table: Table, to: &To, context: &mut Context<'_>) -> Option<Lookup> {
    let place = format!("{stage}.{name}.lookup");
    for key in NOT_THERE {
        if table.remove(key).is_some() {
            context.found.add(&format!("{place}.{key}"), "a look-up has none");
        }
    }
    let settle = match table.remove("settle") {
        None => Some(SETTLE),
        Some(Value::String(text)) => duration(&format!("{place}.settle"), &text, context.found),
        Some(_) => {
            context
                .found
                .add(&format!("{place}.settle"), "a duration such as \"1m\" is needed");
            None
        }
    };
    let (To::Service(target) | To::Destination(target)) = to;
    table.insert("destination".to_owned(), Value::String(target.clone()));
    table.insert("effect".to_owned(), Value::String("read".to_owned()));
    let request = request(stage, &format!("{name}.lookup"), &table, context)?;
    if !request.rules.iter().any(|rule| rule.then == Then::Absent) {
        context
            .found
            .add(&format!("{place}.on"), "a rule is needed that tells what is `absent`");
    }
    Some(Lookup {
        request,
        settle: settle?,
    })
}
