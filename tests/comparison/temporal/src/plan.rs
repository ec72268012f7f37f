//! From the pipeline to the steps of an order.

use std::time::Duration;

use comparison::stages::{Receipt, Stages};
use shared::configuration::Configuration;
use shared::pipeline::{Request, Stage, Target, To};

use crate::arm::Arm;
use crate::order::{Order, Place, Step};

/// What an attempt takes besides its calls, so that it is the call's own timeout that ends a call.
const MARGIN: Duration = Duration::from_secs(5);

/// The steps of every order.
#[derive(Debug, Clone)]
pub struct Plan(Vec<Step>);

impl Plan {
    /// The stages of a pipeline, each in the place where the arm has it run.
    #[must_use]
    pub fn new(configuration: &Configuration, stages: &Stages, arm: &Arm) -> Self {
        let steps = stages.pipeline.stages.iter().map(|stage| Step {
            stage: stage.name.clone(),
            place: place(arm, &stage.target),
            timeout: longest(configuration, stage),
        });
        Self(steps.collect())
    }

    /// The order of a receipt.
    #[must_use]
    pub fn order(&self, receipt: Receipt) -> Order {
        Order {
            merchant: receipt.merchant,
            external_id: receipt.external_id,
            content: receipt.content.as_ref().to_owned(),
            steps: self.0.clone(),
        }
    }
}

fn place(arm: &Arm, target: &Target) -> Place {
    match (arm, target) {
        (Arm::Plain, _) => Place::Same,
        // What lasts milliseconds and may be done twice: Temporal stores its result with the workflow task, and nothing else.
        (Arm::Tuned { .. }, Target::Internal) => Place::Local,
        // A queue of the API's own is what its limit can be put on.
        (Arm::Tuned { .. }, Target::External { destination }) => Place::Queue(Arm::queue_of(destination)),
    }
}

/// How long the calls of a stage last at most, one after another.
fn longest(configuration: &Configuration, stage: &Stage) -> Duration {
    let calls: Duration = stage
        .requests
        .iter()
        .map(|request| of_one(configuration, request))
        .sum();
    calls + MARGIN
}

fn of_one(configuration: &Configuration, request: &Request) -> Duration {
    let endpoint = match &request.to {
        To::Service(name) => configuration.service.get(name).map(|service| service.timeout),
        To::Destination(name) => configuration.destination.get(name).map(|api| api.timeout),
    };
    request.timeout.or(endpoint).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn planned(arm: &Arm) -> Vec<Step> {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../deploy/chekhov.toml");
        let configuration = Configuration::load(&shipped).expect("the shipped configuration is good");
        let stages = Stages::read(&configuration).expect("the shipped pipeline is good");
        Plan::new(&configuration, &stages, arm).0
    }

    #[test]
    fn everything_is_on_one_queue_in_the_plain_arm() {
        let steps = planned(&Arm::Plain);
        assert!(steps.len() > 2);
        assert!(steps.iter().all(|step| step.place == Place::Same), "{steps:?}");
    }

    #[test]
    fn only_calls_outside_go_over_a_queue_of_their_own_in_the_tuned_arm() {
        let steps = planned(&Arm::Tuned { fiscal_limit: None });
        let (outside, inside): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .partition(|step| step.place == Place::Queue("destination-fiscal".to_owned()));
        assert!(inside.iter().all(|step| step.place == Place::Local), "{inside:?}");
        assert!(!inside.is_empty());
        // The endpoint's ten seconds end a call; Temporal's own timeout is behind them.
        assert!(!outside.is_empty() && outside.iter().all(|step| step.timeout > Duration::from_secs(10)));
    }
}
