//! The activity: one attempt of one stage.

use std::sync::Arc;

use comparison::stages::{Outcome, Stages};
use shared::pipeline::Subject;
use temporalio_macros::activities;
use temporalio_sdk::ApplicationFailure;
use temporalio_sdk::activities::{ActivityContext, ActivityError};

use crate::order::Work;

/// Makes the attempts.
#[derive(Clone)]
pub struct Attempts {
    stages: Arc<Stages>,
}

impl Attempts {
    /// By these stages.
    #[must_use]
    pub fn new(stages: Arc<Stages>) -> Self {
        Self { stages }
    }
}

#[activities]
impl Attempts {
    /// Runs one attempt of a stage; answers `{request: value}` as JSON.
    #[activity]
    pub async fn attempt(self: Arc<Self>, context: ActivityContext, work: Work) -> Result<String, ActivityError> {
        let stages = &self.stages.pipeline.stages;
        let Some(stage) = stages.iter().find(|stage| stage.name == work.stage) else {
            // Another worker may have it.
            return Err(failure(format!("this pipeline has no stage {}", work.stage)));
        };
        // Temporal counts from 1.
        let attempt = context.info().attempt.saturating_sub(1);
        let receipt = work.receipt();
        let mut subject = Subject::new(Arc::clone(&receipt.content), work.results);
        match self.stages.attempt(&receipt, stage, attempt, &mut subject).await {
            Outcome::Success(result) => Ok(result),
            // Without one the retry policy decides.
            Outcome::Again { reason, after } => Err(ActivityError::application(
                ApplicationFailure::builder(reason)
                    .type_name("Again".to_owned())
                    .maybe_next_retry_delay(after)
                    .build(),
            )),
            Outcome::Never { reason } => Err(ActivityError::application(
                ApplicationFailure::builder(reason)
                    .type_name("Never".to_owned())
                    .non_retryable(true)
                    .build(),
            )),
        }
    }
}

fn failure(reason: String) -> ActivityError {
    ActivityError::application(ApplicationFailure::new(reason))
}
