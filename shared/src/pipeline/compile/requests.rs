//! A request and its rules.

use http::Method;
use toml::{Table, Value};

use super::Context;
use super::times::{duration, fill};
use super::unknown::{Given, unknown};
use crate::pipeline::filter::Filter;
use crate::pipeline::mistakes::Found;
use crate::pipeline::request::{Reason, Rule, Then};
use crate::pipeline::subject::Variables;
use crate::pipeline::template::Template;
use crate::pipeline::{Effect, Request, Source, To, definition};

pub(super) fn request(stage: &str, name: &str, table: &Table, context: &mut Context<'_>) -> Option<Request> {
    let place = format!("{stage}.{name}");
    let given: definition::Request = context.found.read(&place, table)?;
    let found = &mut *context.found;
    let to = match (given.service, given.destination) {
        (Some(service), None) => To::Service(service),
        (None, Some(destination)) => To::Destination(destination),
        _ => {
            found.add(&place, "either `service` or `destination` is needed");
            To::Service(String::new())
        }
    };
    let methods = [
        (Method::GET, given.get),
        (Method::POST, given.post),
        (Method::PUT, given.put),
        (Method::PATCH, given.patch),
        (Method::DELETE, given.delete),
    ];
    let (method, path) = method(&place, methods, found);
    let path_place = format!("{place}.{}", method.as_str().to_ascii_lowercase());
    if !path.starts_with('/') {
        found.add(&path_place, "a path begins with /");
    }
    let places = Places {
        order: context.order,
        variables: &context.variables,
        stage,
        items: given.for_each.is_some(),
    };
    let spelled = path.split('?').next().unwrap_or_default().to_owned();
    let path = places.template(&path_place, &path, found);
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
            let template = places.template(&format!("{place}.headers.{key}"), &text, found)?;
            Some((key, template))
        })
        .collect();
    let effect = effect(&place, given.effect.as_deref(), &method, &to, found);
    if given.parallel == Some(0) {
        found.add(&format!("{place}.parallel"), "at least 1");
    }
    let timeout = given
        .timeout
        .and_then(|text| duration(&format!("{place}.timeout"), &text, found));
    let poll = given
        .poll
        .map(|definition::Poll { first, factor, max }| definition::Retry {
            first,
            factor,
            max,
            budget: None,
            repeats: None,
        })
        .map(|given| fill(&format!("{place}.poll"), given, context.retry, found));
    let rules = given
        .on
        .iter()
        .enumerate()
        .filter_map(|(n, rule)| self::rule(&format!("{place}.on[{n}]"), stage, rule, context.order, found))
        .collect();
    let said = Given(given.unknown, given.window, given.lookup);
    let unknown = unknown((stage, name), said, (&to, effect), context);
    Some(Request {
        name: name.to_owned(),
        to,
        effect,
        unknown,
        poll,
        parallel: given.parallel.unwrap_or(8).max(1),
        timeout,
        stage: stage.to_owned(),
        method,
        path: path?,
        spelled,
        when,
        for_each,
        query,
        headers,
        body,
        save,
        rules,
        variables: context.variables.clone(),
        success_registers: false,
        reissues_apart: false,
        asks_results: mentions_results(table, context.source),
    })
}

/// The one method that is given, and its path.
fn method(place: &str, methods: [(Method, Option<String>); 5], found: &mut Found) -> (Method, String) {
    let mut given: Vec<(Method, String)> = methods
        .into_iter()
        .filter_map(|(method, path)| Some((method, path?)))
        .collect();
    if given.len() != 1 {
        found.add(
            place,
            "exactly one of `get`, `post`, `put`, `patch` and `delete` is needed",
        );
    }
    given.pop().unwrap_or_else(|| (Method::GET, "/".to_owned()))
}

/// Whether any text of a request mentions earlier results: then it cannot be rendered before they are there.
fn mentions_results(table: &Table, source: &Source) -> bool {
    table.iter().any(|(key, value)| match value {
        Value::String(file) if key == "body_file" => {
            source.files.get(file).is_some_and(|text| text.contains(".results"))
        }
        Value::String(text) => text.contains(".results"),
        Value::Table(table) => mentions_results(table, source),
        _ => false,
    })
}

/// What the places of a request's templates may name.
struct Places<'a> {
    order: &'a [String],
    variables: &'a Variables,
    stage: &'a str,
    items: bool,
}

impl Places<'_> {
    fn template(&self, place: &str, text: &str, found: &mut Found) -> Option<Template> {
        let template = found.keep(place, Template::compile(text))?;
        for path in template.places() {
            if let Err(mistake) = self.check(path) {
                found.add(place, format!("{{.{}}}: {mistake}", path.join(".")));
            }
        }
        Some(template)
    }

    fn check(&self, path: &[String]) -> Result<(), String> {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let at = |stage: &str| self.order.iter().position(|name| name == stage);
        match path.as_slice() {
            ["vars", name, ..] if !self.variables.iter().any(|(known, _)| known == name) => {
                Err(format!("there is no `{name}` in [vars]"))
            }
            ["results", stage, ..] if at(stage).is_none_or(|index| Some(index) > at(self.stage)) => {
                Err(format!("`{stage}` is no stage before this one"))
            }
            ["item", ..] if !self.items => Err("there are items only with `for_each`".to_owned()),
            ["call", rest @ ..] if rest != ["id"] => Err("of a call there is only .call.id".to_owned()),
            _ => Ok(()),
        }
    }
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
            let unread = || {
                source
                    .unread
                    .get(&file)
                    .cloned()
                    .unwrap_or_else(|| format!("{file:?} was not read"))
            };
            let text = source.files.get(&file).ok_or_else(unread);
            found.keep(
                &format!("{place}.body_file"),
                text.and_then(|text| Filter::compile(text)),
            )
        }
        (None, None) => None,
    }
}

fn rule(place: &str, stage: &str, table: &Table, order: &[String], found: &mut Found) -> Option<Rule> {
    let given: definition::Rule = found.read(place, table)?;
    if given.status.is_some_and(|status| !(100..=599).contains(&status)) {
        found.add(&format!("{place}.status"), "100 to 599");
    }
    if given.stage.is_some() && given.then != "reissue" {
        found.add(&format!("{place}.stage"), "only a reissue goes back to a stage");
    }
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
        "absent" => Then::Absent,
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
                format!("{other:?}: success, retry, poll, reject, unknown, absent, reissue and park are there"),
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
        // A sentence begins with none of these, a filter with one of them.
        if text.starts_with(['.', '"', '(', '[', '{', '$']) {
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
