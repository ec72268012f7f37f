//! What a pipeline would do, told without doing it.

use std::fmt::Write;
use std::sync::Arc;

use super::{Effect, Pipeline, Subject, Target, To, call_id};
use crate::receipt::Receipt;

/// The stages and requests of a pipeline; with a receipt, every request that can be rendered before anything was called.
#[must_use]
pub fn report(pipeline: &Pipeline, receipt: Option<&Receipt>) -> String {
    let mut report = format!("pipeline {} version {}\n", pipeline.name, pipeline.version);
    for stage in &pipeline.stages {
        let target = match &stage.target {
            Target::Internal => "internal".to_owned(),
            Target::External { destination } => format!("external: {destination}"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(report, "{} ({target})", stage.name);
        for request in &stage.requests {
            let effect = match request.effect {
                Effect::Read => "read",
                Effect::Idempotent => "idempotent",
                Effect::Registers => "registers",
            };
            let (To::Service(name) | To::Destination(name)) = &request.to;
            let _ = writeln!(report, "  {} -> {name} ({effect})", request.name);
            let Some(receipt) = receipt else { continue };
            let subject = Subject::new(Arc::from(receipt.to_json()), Vec::new());
            let items = match request.items(&subject) {
                Ok(Some(items)) => items.into_iter().map(Some).collect(),
                Ok(None) => vec![None],
                Err(error) => {
                    let _ = writeln!(report, "    not without earlier results: {error}");
                    continue;
                }
            };
            for (n, item) in items.iter().enumerate() {
                let id = call_id(
                    name,
                    &stage.name,
                    &request.name,
                    &receipt.merchant.id,
                    &receipt.external_id,
                    item.as_ref().map(|_| n),
                    0,
                );
                let _ = match request.render(&subject, &id, item.as_deref()) {
                    Ok(rendered) => {
                        let body = rendered
                            .body
                            .map(|body| String::from_utf8_lossy(&body).into_owned())
                            .unwrap_or_default();
                        writeln!(
                            report,
                            "    {} {}\n    {body}",
                            rendered.method, rendered.path_and_query
                        )
                    }
                    Err(error) => writeln!(report, "    not without earlier results: {error}"),
                };
            }
        }
    }
    report
}
