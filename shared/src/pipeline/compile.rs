//! From a pipeline's text to what runs; every mistake is collected with its place.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use toml::{Table, Value};

use super::filter::Filter;
use super::mistakes::Found;
use super::request::{Reason, Rule, Then};
use super::subject::Variables;
use super::template::Template;
use super::{Backoff, Effect, Mistakes, RenderError, Request, Source, Subject, To, definition};

/// A compiled pipeline, immutable, versioned by its content.
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// 16 hexadecimal digits of the content's hash.
    pub version: String,
    /// Its stages, in order.
    pub stages: Vec<Stage>,
    /// What it was compiled from.
    pub source: Source,
}

/// One step of one or several requests.
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Internal, or external.
    pub target: Target,
    /// Its requests, in order.
    pub requests: Vec<Request>,
    /// The delays and the budget of its retries.
    pub retry: Backoff,
    when: Option<Filter>,
    variables: Variables,
}

/// Where a stage is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By an orchestrator.
    Internal,
    /// By a dispatcher, towards its destination.
    External {
        /// The destination's name.
        destination: String,
    },
}

impl Stage {
    /// Whether its `when` holds.
    ///
    /// # Errors
    /// When the filter fails.
    pub fn runs(&self, subject: &Subject) -> Result<bool, RenderError> {
        let Some(when) = &self.when else { return Ok(true) };
        let input = subject.input(&self.name, &self.variables, "", None)?;
        when.holds(jaq_json::Val::obj(input.into_iter().collect()))
            .map_err(|error| RenderError(format!("when: {error}")))
    }

    /// Its request that registers: the last one, if any.
    #[must_use]
    pub fn registers(&self) -> Option<&Request> {
        self.requests.iter().find(|request| request.effect == Effect::Registers)
    }
}

impl Pipeline {
    /// Compiles a pipeline.
    ///
    /// # Errors
    /// Every mistake, with its place.
    pub fn compile(source: Source) -> Result<Self, Mistakes> {
        let table: Table = source
            .toml
            .parse()
            .map_err(|error: toml::de::Error| Mistakes(vec![error.to_string().trim().to_owned()]))?;
        let mut found = Found::default();
        let pipeline = read(&table, &source, &mut found);
        match pipeline {
            Some((name, stages)) if found.0.is_empty() => Ok(Self {
                name,
                version: source.version(),
                stages,
                source,
            }),
            _ => Err(Mistakes(found.0)),
        }
    }

    /// Checks that every service and destination is in the configuration.
    ///
    /// # Errors
    /// Every one that is not, with its place.
    pub fn check_targets(&self, services: &BTreeSet<String>, destinations: &BTreeSet<String>) -> Result<(), Mistakes> {
        let mut found = Found::default();
        for (stage, request) in self
            .stages
            .iter()
            .flat_map(|stage| stage.requests.iter().map(move |request| (stage, request)))
        {
            let place = format!("{}.{}", stage.name, request.name);
            match &request.to {
                To::Service(name) if !services.contains(name) => {
                    found.add(&place, format!("the configuration has no [service.{name}]"));
                }
                To::Destination(name) if !destinations.contains(name) => {
                    found.add(&place, format!("the configuration has no [destination.{name}]"));
                }
                _ => {}
            }
        }
        if found.0.is_empty() {
            Ok(())
        } else {
            Err(Mistakes(found.0))
        }
    }
}

fn good_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"_-".contains(&letter))
}

fn read(table: &Table, source: &Source, found: &mut Found) -> Option<(String, Vec<Stage>)> {
    let name = table.get("name").and_then(Value::as_str).map(str::to_owned);
    if !name.as_deref().is_some_and(good_name) {
        found.add("name", "1 to 64 of a-z, 0-9, _ and - are needed");
    }
    let order: Vec<String> = match table
        .get("stages")
        .map(|stages| Vec::<String>::deserialize(stages.clone()))
    {
        Some(Ok(order)) if !order.is_empty() => order,
        _ => {
            found.add("stages", "a list of at least one stage name is needed");
            Vec::new()
        }
    };
    for (n, stage) in order.iter().enumerate() {
        if !good_name(stage) || ["name", "stages", "vars", "retry"].contains(&stage.as_str()) {
            found.add(&format!("stages[{n}]"), format!("{stage:?} cannot be a stage's name"));
        } else if order[..n].contains(stage) {
            found.add(&format!("stages[{n}]"), format!("{stage:?} stands here twice"));
        }
    }
    for key in table
        .keys()
        .filter(|key| !["name", "stages", "vars", "retry"].contains(&key.as_str()) && !order.contains(key))
    {
        found.add(key, "is no stage of `stages`, and no key of a pipeline");
    }
    let mut variables = Vec::new();
    for (name, value) in section(table, "vars", found) {
        let place = format!("vars.{name}");
        if let Some(text) = found.keep(&place, value.as_str().ok_or("a jq filter in a string is needed"))
            && let Some(filter) = found.keep(&place, Filter::compile(text))
        {
            variables.push((name.clone(), filter));
        }
    }
    let retry = backoff("retry", table.get("retry"), Backoff::default(), found);
    let mut context = Context {
        source,
        order: &order,
        retry,
        variables: Variables::new(variables),
        found,
    };
    let mut stages: Vec<Stage> = Vec::with_capacity(order.len());
    for name in &order {
        match table.get(name).and_then(Value::as_table) {
            Some(table) => stages.extend(stage(name, table, &mut context)),
            None => context
                .found
                .add(name, format!("the table [{name}.<request>] is missing")),
        }
    }
    let said = stages
        .iter()
        .flat_map(|stage| &stage.requests)
        .any(|request| request.rules.iter().any(|rule| rule.registered));
    for request in stages.iter_mut().flat_map(|stage| &mut stage.requests) {
        request.success_registers = !said && request.effect == Effect::Registers;
    }
    Some((name?, stages))
}

struct Context<'a> {
    source: &'a Source,
    order: &'a [String],
    retry: Backoff,
    variables: Variables,
    found: &'a mut Found,
}

fn section(table: &Table, key: &str, found: &mut Found) -> Table {
    match table.get(key) {
        None => Table::new(),
        Some(Value::Table(table)) => table.clone(),
        Some(_) => {
            found.add(key, "a table is needed");
            Table::new()
        }
    }
}

fn stage(name: &str, table: &Table, context: &mut Context<'_>) -> Option<Stage> {
    let mut requests: Vec<Request> = Vec::new();
    let (mut when, mut retry) = (None, context.retry);
    for (key, value) in table {
        let place = format!("{name}.{key}");
        match (key.as_str(), value) {
            ("when", Value::String(text)) => when = context.found.keep(&place, Filter::compile(text)),
            ("retry", value) => retry = backoff(&place, Some(value), context.retry, context.found),
            (_, Value::Table(table)) if good_name(key) => requests.extend(request(name, key, table, context)),
            _ => context
                .found
                .add(&place, "a request is a table named by 1 to 64 of a-z, 0-9, _ and -"),
        }
    }
    let first = requests.first()?;
    let target = match &first.to {
        To::Service(_) => Target::Internal,
        To::Destination(name) => Target::External {
            destination: name.clone(),
        },
    };
    for (n, request) in requests.iter().enumerate() {
        let place = format!("{name}.{}", request.name);
        let fits = match (&target, &request.to) {
            (Target::Internal, To::Service(_)) => true,
            (Target::External { destination }, To::Destination(name)) => destination == name,
            _ => false,
        };
        if !fits {
            context
                .found
                .add(&place, "the requests of a stage go to services, or to one destination");
        }
        if request.effect == Effect::Registers {
            if n + 1 < requests.len() {
                context.found.add(
                    &place,
                    "a request that registers comes last in its stage, and is the only one",
                );
            }
            if request.for_each.is_some() {
                context
                    .found
                    .add(&format!("{place}.for_each"), "a request that registers is made once");
            }
        }
    }
    Some(Stage {
        name: name.to_owned(),
        target,
        requests,
        retry,
        when,
        variables: context.variables.clone(),
    })
}

fn request(stage: &str, name: &str, table: &Table, context: &mut Context<'_>) -> Option<Request> {
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

fn backoff(place: &str, value: Option<&Value>, base: Backoff, found: &mut Found) -> Backoff {
    let Some(value) = value else { return base };
    match found.keep(place, definition::Retry::deserialize(value.clone())) {
        Some(given) => fill(place, given, base, found),
        None => base,
    }
}

fn fill(place: &str, given: definition::Retry, base: Backoff, found: &mut Found) -> Backoff {
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
    Backoff {
        first,
        factor,
        max,
        budget,
    }
}

fn duration(place: &str, text: &str, found: &mut Found) -> Option<Duration> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(toml: &str) -> Source {
        let body = include_str!("../../../deploy/pipeline/register.jq").to_owned();
        Source {
            toml: toml.to_owned(),
            files: [("register.jq".to_owned(), body)].into(),
        }
    }

    const SHIPPED: &str = include_str!("../../../deploy/pipeline/receipts.toml");

    #[test]
    fn the_shipped_pipeline_compiles() {
        let pipeline = Pipeline::compile(source(SHIPPED)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert_eq!(pipeline.stages.len(), 8);
        let register = pipeline.stages[5].registers().unwrap();
        assert!(!register.success_registers(), "confirm says when it is registered");
        assert_eq!(
            pipeline.stages[5].target,
            Target::External {
                destination: "fiscal".to_owned()
            }
        );
        assert_eq!(pipeline.version, Pipeline::compile(source(SHIPPED)).unwrap().version);
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let mistakes = [
            ("post = \"/validate\"", "post = \"validate\"", "validate.rules.post:"),
            ("service = \"tax\"", "servise = \"tax\"", "calculate.tax:"),
            (
                "service = \"tax\"",
                "service = \"tax\"\ndestination = \"fiscal\"",
                "calculate.tax:",
            ),
            (
                "'.body.status == \"wait\"'",
                "'.body.status =='",
                "confirm.report.on[0].if:",
            ),
            ("then = \"poll\"", "then = \"pol\"", "confirm.report.on[0].then:"),
            (
                "stage = \"register\"",
                "stage = \"fetch\"",
                "confirm.report.on[3].stage:",
            ),
            ("first = \"2s\"", "first = \"soon\"", "confirm.report.poll.first:"),
            (
                "\"document\", \"register\"",
                "\"document\", \"document\", \"register\"",
                "stages[5]:",
            ),
            ("[number.reserve]", "[numbers.reserve]", "numbers:"),
            (
                "{.receipt.merchant.group}/{.vars.operation}",
                "{.merchant}",
                "register.send.post:",
            ),
            (
                "body_file = \"register.jq\"",
                "body_file = \"other.jq\"",
                "register.send.body_file:",
            ),
            ("save = '.body.payload'", "save = 'now'", "confirm.report.save:"),
            (
                "service = \"documents\"",
                "destination = \"fiscal\"\nfor_each = '[]'",
                "document.store.for_each:",
            ),
            ("name = \"receipts\"", "name = \"Receipts!\"", "name:"),
            ("factor = 2      ", "factor = 0      ", "retry.factor:"),
        ];
        for (right, wrong, place) in mistakes {
            assert!(SHIPPED.contains(right), "{right}");
            let Err(Mistakes(found)) = Pipeline::compile(source(&SHIPPED.replacen(right, wrong, 1))) else {
                panic!("{wrong} compiled")
            };
            assert!(
                found.iter().any(|mistake| mistake.starts_with(place)),
                "{wrong}: {found:?}"
            );
        }
    }

    #[test]
    fn a_target_that_is_not_configured_is_named() {
        let pipeline = Pipeline::compile(source(SHIPPED)).unwrap();
        let services = ["validation", "catalog", "sellers", "tax", "numbers"]
            .map(str::to_owned)
            .into();
        let mistakes = pipeline
            .check_targets(&services, &["fiscal".to_owned()].into())
            .unwrap_err();
        assert_eq!(
            mistakes.0,
            ["document.store: the configuration has no [service.documents]"]
        );
    }
}
