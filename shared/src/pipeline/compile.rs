//! From a pipeline's text to what runs; every mistake is collected with its place.

mod registering;
mod requests;
mod times;
mod unknown;

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::{Table, Value};

use super::filter::Filter;
use super::mistakes::Found;
use super::request::Then;
use super::subject::Variables;
use super::view::View;
use requests::request;
use times::backoff;

use super::{Backoff, Effect, Mistakes, RenderError, Request, Source, Subject, To};

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
    /// What becomes of a receipt whose deadline has passed before anything was sent that registers it.
    pub late: Late,
    when: Option<Filter>,
    variables: Variables,
}

/// What becomes of a receipt whose deadline has passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Late {
    /// It is registered all the same.
    #[default]
    GoOn,
    /// It parks.
    Park,
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
        let view = View {
            subject,
            stage: &self.name,
            variables: &self.variables,
            call_id: "",
            item: None,
            answer: None,
        };
        view.holds(when).map_err(|error| error.at("when"))
    }

    /// Where it goes, if it is external.
    #[must_use]
    pub fn destination(&self) -> Option<&str> {
        match &self.target {
            Target::Internal => None,
            Target::External { destination } => Some(destination),
        }
    }

    /// Whether it comes to the same when it is run again under the same keys: all it asks for is idempotent. What is read may be
    /// another thing by then.
    #[must_use]
    pub fn repeats_alike(&self) -> bool {
        self.requests.iter().all(|request| request.effect == Effect::Idempotent)
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

/// The keys of a pipeline beside its stages.
const RESERVED: [&str; 5] = ["name", "stages", "vars", "retry", "late"];

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
        if !good_name(stage) || RESERVED.contains(&stage.as_str()) {
            found.add(&format!("stages[{n}]"), format!("{stage:?} cannot be a stage's name"));
        } else if order[..n].contains(stage) {
            found.add(&format!("stages[{n}]"), format!("{stage:?} stands here twice"));
        }
    }
    for key in table
        .keys()
        .filter(|key| !RESERVED.contains(&key.as_str()) && !order.contains(key))
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
    let late = match table.get("late").map(Value::as_str) {
        None | Some(Some("go_on")) => Late::GoOn,
        Some(Some("park")) => Late::Park,
        Some(_) => {
            found.add("late", "\"go_on\" or \"park\"");
            Late::GoOn
        }
    };
    let mut context = Context {
        source,
        order: &order,
        retry,
        late,
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
    registering::tell(&mut stages, context.found);
    Some((name?, stages))
}

struct Context<'a> {
    source: &'a Source,
    order: &'a [String],
    retry: Backoff,
    late: Late,
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
    let Some(first) = requests.first() else {
        // A request that could not be read has been reported already.
        if !table.iter().any(|(key, value)| key != "retry" && value.is_table()) {
            context
                .found
                .add(name, "a stage needs a request: a table [<stage>.<request>]");
        }
        return None;
    };
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
        let named = !matches!(&request.to, To::Service(name) | To::Destination(name) if name.is_empty());
        if named && !fits {
            context
                .found
                .add(&place, "the requests of a stage go to services, or to one destination");
        }
        if request.rules.iter().any(|rule| rule.then == Then::Absent) {
            let place = format!("{place}.on");
            context.found.add(&place, "only a look-up tells what is absent");
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
        late: context.late,
        when,
        variables: context.variables.clone(),
    })
}

#[cfg(test)]
mod tests;
