//! The two arms: Temporal as it comes, and as an expert runs it.

use temporalio_client::{ConnectionOptions, GrpcCompression, Url};
use temporalio_sdk::runtime::worker_tuner::{FixedSizeSlotSupplier, TunerHolder};
use temporalio_sdk::runtime::{AutoscalingOptions, PollerBehavior};
use temporalio_sdk::{WorkerOptions, WorkflowRegistrationError};

use crate::activities::Attempts;
use crate::workflow::Registration;

/// The task queue of workflows, and of everything in the plain arm.
pub const RECEIPTS: &str = "receipts";
/// Workflow tasks at once. Each holds its slot for as long as its local activities last.
const WORKFLOW_TASKS: usize = 500;
/// Local activities at once: one a workflow task.
const LOCAL_ACTIVITIES: usize = WORKFLOW_TASKS;
/// Calls at an external API at once.
const EXTERNAL_ACTIVITIES: usize = 500;
/// Polls at once at a queue: at least, to begin with, and at most. Between them the server says how many it has work for.
const POLLS: (usize, usize, usize) = (4, 16, 100);
/// Workflows that a worker has in memory, and need no replay: those under way, and a backlog.
const CACHED_WORKFLOWS: usize = 10_000;

/// How Temporal is used.
#[derive(Debug, Clone, PartialEq)]
pub enum Arm {
    /// One task queue, the SDK's defaults.
    Plain,
    /// A task queue for each destination, local activities, eager starts, and everything sized.
    Tuned {
        /// Calls a second at the destination `fiscal`, a limit that the server keeps.
        fiscal_limit: Option<f64>,
    },
}

impl Arm {
    /// The task queue of a destination's calls.
    #[must_use]
    pub fn queue_of(destination: &str) -> String {
        format!("destination-{destination}")
    }

    /// How the server is reached.
    #[must_use]
    pub fn connection(&self, server: Url) -> ConnectionOptions {
        let options = ConnectionOptions::new(server);
        match self {
            Self::Plain => options.build(),
            // The server is near: compressing costs more than the bytes.
            Self::Tuned { .. } => options.grpc_compression(GrpcCompression::None).build(),
        }
    }

    /// Whether the first workflow task comes with the answer to the start.
    #[must_use]
    pub fn starts_eagerly(&self) -> bool {
        matches!(self, Self::Tuned { .. })
    }

    /// The workers of a process.
    ///
    /// # Errors
    /// When the workflow cannot be registered.
    pub fn workers(
        &self,
        attempts: &Attempts,
        destinations: impl IntoIterator<Item = String>,
    ) -> Result<Vec<WorkerOptions>, WorkflowRegistrationError> {
        let receipts = WorkerOptions::new(RECEIPTS)
            .register_workflow::<Registration>()?
            .register_activities(attempts.clone());
        let Self::Tuned { fiscal_limit } = self else {
            return Ok(vec![receipts.build()]);
        };
        let receipts = receipts
            .max_cached_workflows(CACHED_WORKFLOWS)
            .tuner(slots(WORKFLOW_TASKS, LOCAL_ACTIVITIES))
            .workflow_task_poller_behavior(polls())
            .build();
        let of_destinations = destinations.into_iter().map(|destination| {
            WorkerOptions::new(Self::queue_of(&destination))
                .register_activities(attempts.clone())
                .tuner(slots(1, EXTERNAL_ACTIVITIES))
                .activity_task_poller_behavior(polls())
                .maybe_max_task_queue_activities_per_second(fiscal_limit.filter(|_| destination == "fiscal"))
                .build()
        });
        Ok(std::iter::once(receipts).chain(of_destinations).collect())
    }
}

fn slots(workflow_tasks: usize, activities: usize) -> TunerHolder {
    TunerHolder::builder()
        .workflow_task_slot_supplier(FixedSizeSlotSupplier::new(workflow_tasks))
        .activity_task_slot_supplier(FixedSizeSlotSupplier::new(activities))
        .local_activity_task_slot_supplier(FixedSizeSlotSupplier::new(activities))
        .nexus_task_slot_supplier(FixedSizeSlotSupplier::new(1))
        .build()
}

fn polls() -> PollerBehavior {
    let (minimum, initial, maximum) = POLLS;
    let options = AutoscalingOptions::builder()
        .minimum(minimum)
        .initial(initial)
        .maximum(maximum);
    PollerBehavior::Autoscaling(options.build())
}
