//! One request of a stage: when it is made, what is sent, and what its answer comes to.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method};
use jaq_json::Val;
use percent_encoding::utf8_percent_encode;
use sha2::{Digest, Sha256};

use super::filter::Filter;
use super::json::is_json;
use super::outcome::{default_verdict, retry_after};
use super::reader::read;
use super::subject::Variables;
use super::template::{SEGMENT, Template, scalar};
use super::told::told;
use super::view::{Answer, View};
use super::{Backoff, Effect, Exchange, RenderError, Subject, Unknown, Verdict};

/// The longest reason taken from an answer, in characters.
const REASON: usize = 500;

/// Where a request goes: a name of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// `[service.<name>]`
    Service(String),
    /// `[destination.<name>]`
    Destination(String),
}

/// A compiled request.
pub struct Request {
    /// Its name, unique in its stage.
    pub name: String,
    /// Where it goes.
    pub to: To,
    /// What repeating it does.
    pub effect: Effect,
    /// The delays of `poll` outcomes.
    pub poll: Option<Backoff>,
    /// What is done before a call is made again that nobody knows about, if it registers.
    pub unknown: Unknown,
    /// Calls of `for_each` at once.
    pub parallel: usize,
    /// Of one call, instead of the endpoint's.
    pub timeout: Option<Duration>,
    pub(super) stage: String,
    pub(super) method: Method,
    pub(super) path: Template,
    /// The path as the pipeline spells it, without a query.
    pub(super) spelled: String,
    pub(super) when: Option<Filter>,
    pub(super) for_each: Option<Filter>,
    pub(super) query: Vec<(String, Filter)>,
    pub(super) headers: Vec<(String, Template)>,
    pub(super) body: Option<Filter>,
    pub(super) save: Option<Filter>,
    pub(super) rules: Vec<Rule>,
    pub(super) variables: Variables,
    /// Its success means that the receipt is registered: no rule of the pipeline says when.
    pub(super) success_registers: bool,
    /// What it reissues has nothing to do with what is registered by then.
    pub(super) reissues_apart: bool,
    /// Whether it cannot be rendered before earlier stages have results.
    pub(super) asks_results: bool,
}

/// One entry of `on`.
pub(super) struct Rule {
    pub status: Option<u16>,
    pub condition: Option<Filter>,
    pub then: Then,
    pub reason: Option<Reason>,
    pub registered: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Success,
    Retry,
    Poll,
    Reject,
    Unknown,
    Absent,
    Park,
    Reissue(usize),
}

pub(super) enum Reason {
    Text(String),
    Filter(Filter),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// HTTP method.
    pub method: Method,
    /// Path and query, to be appended to the endpoint's URL.
    pub path_and_query: String,
    /// Header pairs.
    pub headers: Vec<(String, String)>,
    /// The body, JSON.
    pub body: Option<Bytes>,
}

impl Request {
    /// Its path as the pipeline spells it, without a query: nothing of a receipt is in it.
    #[must_use]
    pub fn template(&self) -> &str {
        &self.spelled
    }

    /// Whether its `when` holds.
    ///
    /// # Errors
    /// When the filter fails.
    pub fn runs(&self, subject: &Subject) -> Result<bool, RenderError> {
        let Some(when) = &self.when else { return Ok(true) };
        let view = self.view(subject, "", None);
        view.holds(when).map_err(|error| error.at("when"))
    }

    /// The items of `for_each`, as JSON; `None` without it.
    ///
    /// # Errors
    /// When the filter fails or its output is no array.
    pub fn items(&self, subject: &Subject) -> Result<Option<Vec<String>>, RenderError> {
        let Some(each) = &self.for_each else { return Ok(None) };
        let view = self.view(subject, "", None);
        match view.one(each).map_err(|error| error.at("for_each"))? {
            Val::Arr(items) => Ok(Some(items.iter().map(ToString::to_string).collect())),
            _ => Err(RenderError("for_each: the output is no array".to_owned())),
        }
    }

    /// What is sent for a receipt, or for an item of it.
    ///
    /// # Errors
    /// When a place has no value or a filter fails.
    pub fn render(&self, subject: &Subject, call_id: &str, item: Option<&str>) -> Result<Rendered, RenderError> {
        let view = self.view(subject, call_id, item);
        let at = |path: &[String]| view.at(path);
        let mut path_and_query = self.path.render(at, true)?;
        let mut separator = if path_and_query.contains('?') { '&' } else { '?' };
        for (name, filter) in &self.query {
            let place = || format!("query.{name}");
            let value = view.one(filter).map_err(|error| error.at(&place()))?;
            let value = scalar(&value).ok_or_else(|| RenderError("no plain value".to_owned()).at(&place()))?;
            path_and_query.push(separator);
            path_and_query.extend(utf8_percent_encode(name, SEGMENT));
            path_and_query.push('=');
            path_and_query.extend(utf8_percent_encode(&value, SEGMENT));
            separator = '&';
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, template) in &self.headers {
            let value = template.render(at, false)?;
            if HeaderValue::from_str(&value).is_err() {
                return Err(RenderError(format!("headers.{name}: cannot be sent as a header")));
            }
            headers.push((name.clone(), value));
        }
        let body = match &self.body {
            Some(filter) => Some(view.json(filter).map_err(|error| error.at("body"))?.into()),
            None if matches!(self.method, Method::GET | Method::DELETE) => None,
            None => Some(subject.envelope().into()),
        };
        Ok(Rendered {
            method: self.method.clone(),
            path_and_query,
            headers,
            body,
        })
    }

    /// What a call came to: the first rule that matches, or the default.
    #[must_use]
    pub fn judge(&self, subject: &Subject, call_id: &str, item: Option<&str>, exchange: &Exchange) -> Verdict {
        let target = match &self.to {
            To::Service(name) | To::Destination(name) => name,
        };
        let Exchange::Answered {
            status,
            headers,
            body,
            complete,
        } = exchange
        else {
            return named(default_verdict(self.effect, exchange, false), target);
        };
        let json = std::str::from_utf8(body)
            .ok()
            .filter(|body| *complete && is_json(body.as_bytes()))
            // Escapes can name what is no character: only a filter's reader tells.
            .filter(|body| !body.contains("\\u") || read(body).is_ok());
        // Nothing is an answer where nothing had to be said; a request that registers is told what it came to, or 204.
        let silent = *complete && body.is_empty() && (self.effect != Effect::Registers || *status == 204);
        let default = default_verdict(self.effect, exchange, json.is_some() || silent);
        if !complete {
            return named(default, target);
        }
        let view = View {
            answer: Some(Answer::new(*status, headers, json)),
            ..self.view(subject, call_id, item)
        };
        let rule = self.rules.iter().find(|rule| {
            rule.status.is_none_or(|wanted| wanted == *status)
                && rule
                    .condition
                    .as_ref()
                    .is_none_or(|filter| view.holds(filter).unwrap_or(false))
        });
        let Some(rule) = rule else {
            return match default {
                Verdict::Success { .. } => self.succeed(target, json, &view, self.success_registers),
                other => named(other, target),
            };
        };
        let reason = match &rule.reason {
            Some(Reason::Text(reason)) => reason.clone(),
            Some(Reason::Filter(filter)) => view.one(filter).ok().and_then(|value| scalar(&value)).map_or_else(
                || format!("{target} answered {status}"),
                |reason| told(&reason).chars().take(REASON).collect(),
            ),
            None => format!("{target} answered {status}"),
        };
        match rule.then {
            Then::Success => self.succeed(target, json, &view, rule.registered || self.success_registers),
            Then::Retry => Verdict::Retry {
                reason,
                after: retry_after(headers),
            },
            Then::Poll => Verdict::Poll { reason },
            Then::Reject => Verdict::Reject { reason, declared: true },
            Then::Unknown => Verdict::Unknown { reason },
            Then::Absent => Verdict::Absent {
                reason,
                again: Duration::ZERO,
            },
            Then::Park => Verdict::Park { reason },
            Then::Reissue(stage) => Verdict::Reissue { stage, reason },
        }
    }

    /// Whether a success of this request means that the receipt is registered.
    #[must_use]
    pub fn success_registers(&self) -> bool {
        self.success_registers
    }

    /// Whether what it reissues was registered nowhere yet, though the receipt is: at a destination before.
    #[must_use]
    pub fn reissues_apart(&self) -> bool {
        self.reissues_apart
    }

    fn succeed(&self, target: &str, body: Option<&str>, view: &View<'_>, registered: bool) -> Verdict {
        let value = match &self.save {
            None => Ok(body.unwrap_or("null").trim().to_owned()),
            Some(filter) => view.json(filter),
        };
        match value {
            Ok(value) => Verdict::Success { value, registered },
            // It answered well, but not what was agreed: for a request that registers that settles nothing.
            Err(error) if self.effect == Effect::Registers => Verdict::Unknown {
                reason: format!("{target}: its answer could not be saved: {error}"),
            },
            Err(error) => Verdict::Undeclared {
                reason: format!("{target}: its answer could not be saved: {error}"),
            },
        }
    }

    fn view<'a>(&'a self, subject: &'a Subject, call_id: &'a str, item: Option<&'a str>) -> View<'a> {
        View {
            subject,
            stage: &self.stage,
            variables: &self.variables,
            call_id,
            item,
            answer: None,
        }
    }
}

/// The verdict with the endpoint's name before its reason.
fn named(verdict: Verdict, target: &str) -> Verdict {
    let say = |reason: String| format!("{target} {reason}");
    match verdict {
        Verdict::Retry { reason, after } => Verdict::Retry {
            reason: say(reason),
            after,
        },
        Verdict::Reject { reason, declared } => Verdict::Reject {
            reason: say(reason),
            declared,
        },
        Verdict::Unknown { reason } => Verdict::Unknown { reason: say(reason) },
        Verdict::Undeclared { reason } => Verdict::Undeclared { reason: say(reason) },
        Verdict::Credentials { reason } => Verdict::Credentials { reason: say(reason) },
        other => other,
    }
}

/// The idempotency key of a call: a hash of what it is for and never of our own id, so that a receipt posted again after
/// a restore gets the same one. 64 hexadecimal digits; `n` rises only when the API demands a new one.
#[must_use]
pub fn call_id(
    target: &str,
    stage: &str,
    request: &str,
    merchant: &str,
    external_id: &str,
    item: Option<usize>,
    n: u32,
) -> String {
    let mut hash = Sha256::new();
    let item = item.map_or_else(String::new, |item| item.to_string());
    for field in [target, stage, request, merchant, external_id, &item, &n.to_string()] {
        hash.update(u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(field);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_ids_differ_in_every_field_and_in_nothing_else() {
        let id = call_id("fiscal", "register", "send", "m", "e", None, 0);
        assert_eq!(id.len(), 64);
        assert_eq!(id, call_id("fiscal", "register", "send", "m", "e", None, 0));
        for other in [
            call_id("fiscalr", "egister", "send", "m", "e", None, 0),
            call_id("fiscal", "register", "send", "me", "", None, 0),
            call_id("fiscal", "register", "send", "m", "e", Some(0), 0),
            call_id("fiscal", "register", "send", "m", "e", None, 1),
        ] {
            assert_ne!(id, other);
        }
    }
}
