//! What a pipeline would do, told without doing it.

use std::sync::Arc;

use super::{Effect, Pipeline, RenderError, Rendered, Request, Stage, Subject, Target, To, Unknown, call_id};
use crate::receipt::Receipt;

/// What a pipeline would do with a receipt.
pub struct Report {
    /// Its stages and requests, and every request that can be rendered before anything was called.
    pub text: String,
    /// What cannot be rendered although no earlier result is asked for, each with its place.
    pub mistakes: Vec<String>,
}

/// The stages and requests of a pipeline; with a receipt, what each would send.
#[must_use]
pub fn report(pipeline: &Pipeline, receipt: Option<&Receipt>) -> Report {
    let mut report = Report {
        text: format!("pipeline {} version {}\n", pipeline.name, pipeline.version),
        mistakes: Vec::new(),
    };
    for stage in &pipeline.stages {
        let target = match &stage.target {
            Target::Internal => "internal".to_owned(),
            Target::External { destination } => format!("external: {destination}"),
        };
        report.line(&format!("{} ({target})", stage.name));
        for request in &stage.requests {
            report.request(stage, request, &request.name, receipt);
            if let Unknown::Lookup(lookup) = &request.unknown {
                report.request(stage, &lookup.request, &request.name, receipt);
            }
        }
    }
    report
}

impl Report {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A request, whose call id is that of the request called `of`.
    fn request(&mut self, stage: &Stage, request: &Request, of: &str, receipt: Option<&Receipt>) {
        let effect = match (request.effect, &request.unknown) {
            (Effect::Read, _) => "read",
            (Effect::Idempotent, _) => "idempotent",
            (Effect::Registers, Unknown::Resend { .. }) => "registers; unknown: resend",
            (Effect::Registers, Unknown::Lookup(_)) => "registers; unknown: lookup",
            (Effect::Registers, Unknown::Manual) => "registers; unknown: manual",
        };
        let (To::Service(target) | To::Destination(target)) = &request.to;
        self.line(&format!("  {} -> {target} ({effect})", request.name));
        if let Some(receipt) = receipt {
            self.render(stage, request, of, receipt);
        }
    }

    fn render(&mut self, stage: &Stage, request: &Request, of: &str, receipt: &Receipt) {
        let (To::Service(target) | To::Destination(target)) = &request.to;
        let subject = Subject::new(Arc::from(receipt.to_json()), Vec::new());
        let rendered = || -> Result<Vec<Rendered>, RenderError> {
            if !(stage.runs(&subject)? && request.runs(&subject)?) {
                return Ok(Vec::new());
            }
            let items = request
                .items(&subject)?
                .map_or_else(|| vec![None], |items| items.into_iter().map(Some).collect());
            let one = |(n, item): (usize, &Option<String>)| {
                let (merchant, external_id) = (&receipt.merchant.id, &receipt.external_id);
                let n = item.as_ref().map(|_| n);
                let id = call_id(target, &stage.name, of, merchant, external_id, n, 0);
                request.render(&subject, &id, item.as_deref())
            };
            items.iter().enumerate().map(one).collect()
        };
        match rendered() {
            Ok(rendered) if rendered.is_empty() => self.line("    not made for this receipt"),
            Ok(rendered) => {
                for Rendered {
                    method,
                    path_and_query,
                    body,
                    ..
                } in rendered
                {
                    self.line(&format!("    {method} {path_and_query}"));
                    if let Some(body) = body {
                        self.line(&format!("    {}", String::from_utf8_lossy(&body)));
                    }
                }
            }
            Err(_) if request.asks_results => self.line("    needs results of earlier stages"),
            Err(error) => self.mistakes.push(format!("{}.{}: {error}", stage.name, request.name)),
        }
    }
}
