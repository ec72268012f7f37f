//! A request and its rules.

use http::Method;
use serde::Deserialize;
use toml::{Table, Value};

use super::Context;
use super::times::{duration, fill};
use crate::pipeline::filter::Filter;
use crate::pipeline::mistakes::Found;
use crate::pipeline::request::{Reason, Rule, Then};
use crate::pipeline::template::Template;
use crate::pipeline::{Effect, Request, Source, To, definition};

pub(super) fn request(stage: &str, name: &str, table: &Table, context: &mut Context<'_>) -> Option<Request> {
    let place = format!("{stage}.{name}");
    let given = context
        .found
        .keep(&place, definition::Request::deserialize(Value::Table(table.clone())))?;
    let found = &mut *context.found;
    let to = match (given.service, given.destination) {
        (Some(service), None) => Some(To::Service(service)),
        (None, Some(destination)) => Some(To::Destination(destination)),
        _ => {
            found.add(&place, "either `service` or `destination` is needed");
            None
        }
    };
    let methods = [
        (Method::GET, given.get),
        (Method::POST, given.post),
        (Method::PUT, given.put),
        (Method::PATCH, given.patch),
        (Method::DELETE, given.delete),
    ];
    let mut methods: Vec<(Method, String)> = methods
        .into_iter()
        .filter_map(|(method, path)| Some((method, path?)))
        .collect();
    if methods.len() != 1 {
        found.add(
            &place,
            "exactly one of `get`, `post`, `put`, `patch` and `delete` is needed",
        );
    }
    let (method, path) = methods.pop()?;
    let path_place = format!("{place}.{}", method.as_str().to_ascii_lowercase());
    if !path.starts_with('/') {
        found.add(&path_place, "a path begins with /");
    }
    let path = found.keep(&path_place, Template::compile(&path));
    let mut filter = |key: &str, text: Option<String>| {
        text.and_then(|text| found.keep(&format!("{place}.{key}"), Filter::compile(&text)))
    };
    let when = filter("when", given.when);
    let for_each = filter("for_each", given.for_each);
    let save = filter("save", given.save);
    let query = given
        .query
        .into_iter()
        .filter_map(|(key, text)| Some((key.clone(), filter(&format!("query.{key}"), Some(text))?)))
        .collect();
    let body = body(&place, given.body, given.body_file, context.source, found);
    let headers = given
        .headers
        .into_iter()
        .filter_map(|(key, text)| {
            Some((
                key.clone(),
                found.keep(&format!("{place}.headers.{key}"), Template::compile(&text))?,
            ))
        })
        .collect();
    let effect = effect(&place, given.effect.as_deref(), &method, to.as_ref()?, found);
    let timeout = given
        .timeout
        .and_then(|text| duration(&format!("{place}.timeout"), &text, found));
    let poll = given
        .poll
        .map(|given| fill(&format!("{place}.poll"), given, context.retry, found));
    let rules = given
        .on
        .into_iter()
        .enumerate()
        .filter_map(|(n, rule)| self::rule(&format!("{place}.on[{n}]"), stage, rule, context.order, found))
        .collect();
    Some(Request {
        name: name.to_owned(),
        to: to?,
        effect,
        poll,
        parallel: given.parallel.unwrap_or(8).max(1),
        timeout,
        stage: stage.to_owned(),
        method,
        path: path?,
        when,
        for_each,
        query,
        headers,
        body,
        save,
        rules,
        variables: context.variables.clone(),
        success_registers: false,
    })
}

/// What repeating a request does, where it is not said: nothing for GET, no harm at a service, registering at a destination.
fn effect(place: &str, given: Option<&str>, method: &Method, to: &To, found: &mut Found) -> Effect {
    match (given, to) {
        (Some("read"), _) => Effect::Read,
        (None, _) if method == Method::GET => Effect::Read,
        (Some("idempotent"), _) | (None, To::Service(_)) => Effect::Idempotent,
        (Some("registers") | None, To::Destination(_)) => Effect::Registers,
        (Some(_), _) => {
            found.add(
                &format!("{place}.effect"),
                "\"read\", \"idempotent\", or towards a destination \"registers\"",
            );
            Effect::Read
        }
    }
}

fn body(place: &str, text: Option<String>, file: Option<String>, source: &Source, found: &mut Found) -> Option<Filter> {
    match (text, file) {
        (Some(_), Some(_)) => {
            found.add(place, "`body` and `body_file` exclude each other");
            None
        }
        (Some(text), None) => found.keep(&format!("{place}.body"), Filter::compile(&text)),
        (None, Some(file)) => {
            let text = source.files.get(&file).ok_or_else(|| format!("{file:?} was not read"));
            found.keep(
                &format!("{place}.body_file"),
                text.and_then(|text| Filter::compile(text)),
            )
        }
        (None, None) => None,
    }
}

fn rule(place: &str, stage: &str, given: definition::Rule, order: &[String], found: &mut Found) -> Option<Rule> {
    if given.status.is_none() && given.condition.is_none() {
        found.add(place, "`status`, `if` or both are needed");
    }
    let condition = given
        .condition
        .and_then(|text| found.keep(&format!("{place}.if"), Filter::compile(&text)));
    let then = match given.then.as_str() {
        "success" => Then::Success,
        "retry" => Then::Retry,
        "poll" => Then::Poll,
        "reject" => Then::Reject,
        "unknown" => Then::Unknown,
        "park" => Then::Park,
        "reissue" => {
            let here = order.iter().position(|name| name == stage)?;
            match given
                .stage
                .as_deref()
                .map(|wanted| order.iter().position(|name| name == wanted))
            {
                Some(Some(index)) if index <= here => Then::Reissue(index),
                _ => {
                    found.add(
                        &format!("{place}.stage"),
                        "the stage to go back to: this one or an earlier one",
                    );
                    return None;
                }
            }
        }
        other => {
            found.add(
                &format!("{place}.then"),
                format!("{other:?}: success, retry, poll, reject, unknown, reissue and park are there"),
            );
            return None;
        }
    };
    if given.registered && then != Then::Success {
        found.add(
            &format!("{place}.registered"),
            "only a success says that it is registered",
        );
    }
    let reason = given.reason.and_then(|text| {
        if text.starts_with('.') {
            found
                .keep(&format!("{place}.reason"), Filter::compile(&text))
                .map(Reason::Filter)
        } else {
            Some(Reason::Text(text))
        }
    });
    Some(Rule {
        status: given.status,
        condition,
        then,
        reason,
        registered: given.registered,
    })
}
