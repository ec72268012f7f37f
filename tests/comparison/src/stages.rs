//! The stages of a pipeline, run without a store: rendered, sent and judged by the code that Chekhov runs them with.

use std::sync::Arc;
use std::time::Duration;

use shared::configuration::{Configuration, Invalid};
use shared::pipeline::{Mistakes, Pipeline, Request, Source, Stage, Subject, To, Verdict, call_id};
use shared::receipt::{self, Refusal};
use shared::stage::Endpoints;
use shared::telemetry::TraceContext;
use time::OffsetDateTime;

/// A pipeline, and where its calls go.
pub struct Stages {
    /// As it was compiled.
    pub pipeline: Pipeline,
    endpoints: Endpoints,
}

/// A receipt as it was posted.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Merchant id.
    pub merchant: String,
    /// The caller's id.
    pub external_id: String,
    /// All of it, as JSON.
    pub content: Arc<str>,
}

/// What an attempt of a stage came to.
#[derive(Debug)]
pub enum Outcome {
    /// It succeeded: `{request: value}` as JSON.
    Success(String),
    /// Again, later: after that long if somebody says so, else by the back-off of whoever retries.
    Again {
        /// Why.
        reason: String,
        /// What the API, or the pipeline's `poll`, asks for.
        after: Option<Duration>,
    },
    /// Final.
    Never {
        /// Why.
        reason: String,
    },
}

/// Why there are no stages.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The pipeline's mistakes.
    #[error(transparent)]
    Pipeline(#[from] Mistakes),
    /// The configuration's.
    #[error(transparent)]
    Configuration(#[from] Invalid),
}

impl Stages {
    /// Reads the pipeline and the endpoints of a configuration.
    ///
    /// # Errors
    /// Every mistake of the pipeline, and every endpoint that cannot be used.
    pub fn read(configuration: &Configuration) -> Result<Self, Unreadable> {
        let pipeline = Pipeline::compile(Source::read(&configuration.pipeline)?)?;
        let (services, destinations) = configuration.targets();
        pipeline.check_targets(&services, &destinations)?;
        Ok(Self {
            pipeline,
            endpoints: Endpoints::new(configuration, false)?,
        })
    }

    /// Runs one attempt of a stage, the `attempt`th from 0. What registers is repeated with the same id after an answer that
    /// never came: the API has to know it again.
    pub async fn attempt(&self, receipt: &Receipt, stage: &Stage, attempt: u32, subject: &mut Subject) -> Outcome {
        let trace = TraceContext::root(false);
        for request in &stage.requests {
            match self.call(receipt, stage, request, subject, &trace).await {
                Verdict::Success { value, .. } => subject.set_request_result(&request.name, &value),
                verdict => return ended(request, attempt, verdict),
            }
        }
        Outcome::Success(subject.close_stage(&stage.name))
    }

    async fn call(
        &self,
        receipt: &Receipt,
        stage: &Stage,
        request: &Request,
        subject: &Subject,
        trace: &TraceContext,
    ) -> Verdict {
        let target = match &request.to {
            To::Service(name) | To::Destination(name) => name,
        };
        let Receipt {
            merchant, external_id, ..
        } = receipt;
        let id = call_id(target, &stage.name, &request.name, merchant, external_id, None, 0);
        let rendered = match request.render(subject, &id, None) {
            Ok(rendered) => rendered,
            Err(error) => return Verdict::Park { reason: error.0 },
        };
        let Some(endpoint) = self.endpoints.get(&request.to) else {
            return Verdict::Park {
                reason: format!("{target} is not in the configuration"),
            };
        };
        let exchange = self
            .endpoints
            .call(endpoint, &rendered, None, &id, trace, request.timeout)
            .await;
        request.judge(subject, &id, None, &exchange)
    }
}

impl Receipt {
    /// Reads a receipt as Chekhov's intake reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, Refusal> {
        let receipt = receipt::parse(body, OffsetDateTime::now_utc())?;
        Ok(Self {
            content: receipt.to_json().into(),
            merchant: receipt.merchant.id,
            external_id: receipt.external_id,
        })
    }
}

fn ended(request: &Request, attempt: u32, verdict: Verdict) -> Outcome {
    let reason = verdict.reason().unwrap_or_default().to_owned();
    match verdict {
        Verdict::Success { value, .. } => Outcome::Success(value),
        Verdict::Retry { after, .. } => Outcome::Again { reason, after },
        // A poll's delays are even.
        Verdict::Poll { .. } => Outcome::Again {
            reason,
            after: request.poll.as_ref().map(|poll| poll.delay(attempt, 1.0)),
        },
        Verdict::Unknown { .. }
        | Verdict::Undeclared { .. }
        | Verdict::Credentials { .. }
        | Verdict::Absent { .. }
        | Verdict::Reissue { .. } => Outcome::Again { reason, after: None },
        Verdict::Reject { .. } | Verdict::Park { .. } => Outcome::Never { reason },
    }
}
