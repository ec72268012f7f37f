//! Registrations on their way from an API to the ledger: the same for every API.

use uuid::Uuid;

use crate::answer::Answer;
use crate::ledger::{Call, Registration};

/// What registering came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answer: Answer,
    /// The registration to count, unless there is none.
    pub(crate) accepted: Option<Accepted>,
}

/// A registration the ledger has to count.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) uuid: Uuid,
    /// `<merchant id>/<external id>`: by it the ledger counts, whatever API it was.
    pub(crate) reference: String,
    pub(crate) external_id: String,
    pub(crate) group: String,
    pub(crate) operation: String,
    pub(crate) total: u64,
}

impl Outcome {
    /// Nothing was registered.
    pub(crate) fn refused(answer: Answer) -> Self {
        Self { answer, accepted: None }
    }
}

impl Accepted {
    /// As the ledger keeps it: with the call that it came by.
    pub(crate) fn by(self, api: &'static str, call: &Call, at: i64) -> Registration {
        Registration {
            api,
            uuid: self.uuid,
            external_id: self.external_id,
            group: self.group,
            operation: self.operation,
            total: self.total,
            at,
            traceparent: call.traceparent.clone(),
            idempotency_key: call.idempotency_key.clone(),
            user_agent: call.user_agent.clone(),
            peer: call.peer,
            failed: false,
        }
    }
}
