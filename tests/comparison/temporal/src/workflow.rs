//! The workflow: a receipt through its stages, one activity after another.

use std::time::Duration;

use temporalio_common::RetryPolicy;
use temporalio_macros::{workflow, workflow_methods};
use temporalio_sdk::{ActivityExecutionError, ActivityOptions, LocalActivityOptions, WorkflowContext, WorkflowResult};

use crate::activities::Attempts;
use crate::order::{Order, Place, Step, Work};

/// The first delay of the measured pipeline.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// An API that is back is noticed this soon.
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// A local activity that waits longer than this waits for a timer of the server instead, and holds no workflow task.
const LONGEST_LOCAL_WAIT: Duration = Duration::from_secs(1);

/// Registers one receipt. It ends when the last stage has succeeded, or fails with the first that never will.
#[workflow]
#[derive(Default)]
pub struct Registration;

#[workflow_methods]
impl Registration {
    /// Runs the stages of the order.
    #[run]
    pub async fn run(ctx: &mut WorkflowContext<Self>, order: Order) -> WorkflowResult<()> {
        let mut results = Vec::with_capacity(order.steps.len());
        for step in &order.steps {
            let result = attempt_until_done(ctx, step, order.work(&step.stage, &results)).await?;
            results.push((step.stage.clone(), result));
        }
        Ok(())
    }
}

async fn attempt_until_done(
    ctx: &WorkflowContext<Registration>,
    step: &Step,
    work: Work,
) -> Result<String, ActivityExecutionError> {
    let queue = match &step.place {
        Place::Local => {
            let options = LocalActivityOptions::builder()
                .activity_id(step.stage.clone())
                .start_to_close_timeout(step.timeout)
                .retry_policy(retries())
                .timer_backoff_threshold(LONGEST_LOCAL_WAIT)
                .build();
            return ctx.execute_local_activity(Attempts::attempt, work, options).await;
        }
        Place::Same => None,
        Place::Queue(queue) => Some(queue.clone()),
    };
    let options = ActivityOptions::with_start_to_close_timeout(step.timeout)
        .activity_id(step.stage.clone())
        .maybe_task_queue(queue)
        .retry_policy(retries())
        .build();
    ctx.execute_activity(Attempts::attempt, work, options).await
}

/// As many attempts as it takes.
fn retries() -> RetryPolicy {
    RetryPolicy::builder()
        .initial_interval(FIRST_RETRY)
        .backoff_coefficient(2.0)
        .maximum_interval(LONGEST_RETRY)
        .maximum_attempts(0)
        .build()
}
