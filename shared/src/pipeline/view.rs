//! What a filter or template sees: a receipt, what is known of it, and one call's answer. Each member is made when one asks.

use std::cell::OnceCell;

use bytes::Bytes;
use http::HeaderMap;
use jaq_json::Val;

use super::filter::Filter;
use super::reader::read;
use super::subject::{Variables, text};
use super::{RenderError, Subject};

/// What stands around a filter or template.
pub(super) struct View<'a> {
    pub subject: &'a Subject,
    pub stage: &'a str,
    pub variables: &'a Variables,
    pub call_id: &'a str,
    pub item: Option<&'a str>,
    pub answer: Option<Answer<'a>>,
}

/// What came back.
pub(super) struct Answer<'a> {
    status: u16,
    headers: &'a HeaderMap,
    body: Option<&'a str>,
    parsed: OnceCell<Val>,
}

impl<'a> Answer<'a> {
    /// `body` is there if it is JSON.
    pub(super) fn new(status: u16, headers: &'a HeaderMap, body: Option<&'a str>) -> Self {
        Self {
            status,
            headers,
            body,
            parsed: OnceCell::new(),
        }
    }

    fn body(&self) -> Val {
        let read = || self.body.and_then(|json| read(json).ok()).unwrap_or_default();
        self.parsed.get_or_init(read).clone()
    }

    fn headers(&self) -> Val {
        let plain = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            Some((text(name.as_str()), text(value.to_str().ok()?)))
        };
        Val::obj(self.headers.iter().filter_map(plain).collect())
    }
}

/// The members there may be.
const MEMBERS: [&str; 8] = [
    "receipt", "results", "vars", "call", "item", "status", "headers", "body",
];

impl View<'_> {
    /// One member; `None` if there is none of this name here.
    pub(super) fn member(&self, name: &str) -> Result<Option<Val>, RenderError> {
        Ok(match name {
            "receipt" => Some(self.subject.receipt()?),
            "results" => Some(self.subject.results(self.stage)?),
            "vars" => Some(self.subject.variables(self.variables)?),
            "call" => Some(object([("id", text(self.call_id))])),
            "item" => match self.item {
                Some(item) => Some(read(item).map_err(|_| RenderError("an item cannot be read".to_owned()))?),
                None => None,
            },
            "status" => self.answer.as_ref().map(|answer| Val::from(usize::from(answer.status))),
            "headers" => self.answer.as_ref().map(Answer::headers),
            "body" => self.answer.as_ref().map(Answer::body),
            _ => None,
        })
    }

    /// What a path of names leads to.
    pub(super) fn at(&self, path: &[String]) -> Result<Option<Val>, RenderError> {
        let (found, rest) = match path {
            // The others need not be read for it.
            [results, stage, rest @ ..] if results == "results" => (self.subject.result(stage, self.stage)?, rest),
            [member, rest @ ..] => (self.member(member)?, rest),
            [] => (None, path),
        };
        Ok(found.and_then(|value| rest.iter().try_fold(value, |value, name| named(&value, name))))
    }

    /// What `filter` reads of it.
    pub(super) fn input(&self, filter: &Filter) -> Result<Val, RenderError> {
        let mut members = Vec::new();
        for name in MEMBERS {
            if filter.reads().has(name)
                && let Some(value) = self.member(name)?
            {
                members.push((name, value));
            }
        }
        Ok(object(members))
    }

    /// The one output of `filter`.
    pub(super) fn one(&self, filter: &Filter) -> Result<Val, RenderError> {
        filter.one(self.input(filter)?).map_err(RenderError)
    }

    /// The one output of `filter`, as JSON.
    pub(super) fn json(&self, filter: &Filter) -> Result<String, RenderError> {
        filter.json(self.input(filter)?).map_err(RenderError)
    }

    /// Whether the output of `filter` is neither false nor null.
    pub(super) fn holds(&self, filter: &Filter) -> Result<bool, RenderError> {
        filter.holds(self.input(filter)?).map_err(RenderError)
    }
}

fn object(members: impl IntoIterator<Item = (&'static str, Val)>) -> Val {
    let name = |name: &'static str| Val::utf8_str(Bytes::from_static(name.as_bytes()));
    Val::obj(members.into_iter().map(|(known, value)| (name(known), value)).collect())
}

/// The member of this name. They are few, or it is asked for once: to hash the name would cost more than to compare it.
pub(super) fn named(value: &Val, name: &str) -> Option<Val> {
    let Val::Obj(object) = value else { return None };
    let is_named = |known: &Val| matches!(known, Val::TStr(known) if ***known == *name.as_bytes());
    object
        .iter()
        .find(|(known, _)| is_named(known))
        .map(|(_, value)| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_the_result_that_it_names_and_no_other() {
        let before = [("tax", r#"{"calculate": {"total": 7}}"#), ("document", "no JSON")];
        let results = before.map(|(stage, result)| (stage.to_owned(), result.to_owned()));
        let mut subject = Subject::new("{}".into(), results.into());
        subject.set_request_result("send", r#"{"uuid": "u"}"#);
        let view = View {
            subject: &subject,
            stage: "register",
            variables: &Variables::default(),
            call_id: "",
            item: None,
            answer: None,
        };
        let at = |path: &str| view.at(&path.split('.').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(at("results.tax.calculate.total").unwrap(), Some(Val::from(7_usize)));
        assert_eq!(at("results.register.send.uuid").unwrap(), Some(text("u")));
        assert_eq!(at("results.confirm.report").unwrap(), None);
        assert!(at("results.document").is_err() && at("results").is_err());
    }
}
