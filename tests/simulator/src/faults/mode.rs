//! What may go wrong, and where that has a meaning.

use serde::{Deserialize, Serialize};

use crate::route::Target;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Waits `latency_ms`, then does the work and answers.
    Slow,
    /// Answers `status` and `body` without doing the work.
    Error,
    /// Closes the connection without reading the body.
    Refuse,
    /// Never answers; nothing is done.
    Hang,
    /// Does the work, then closes the connection, `latency_ms` later if that is given.
    CommitThenDrop,
    /// Reads the request, does nothing, closes the connection.
    DropBeforeCommit,
    /// Does the work `latency_ms` later, whether or not the client still waits, and answers then.
    CommitLate,
    /// Reports stay `wait`.
    Stuck,
    /// What was registered is found only `latency_ms` later.
    Lag,
    /// Does the work and answers 200 with what is not JSON.
    Garbage,
    /// A report that would say `done` says `fail` with `error_type`, for good: it was not registered after all.
    Fail,
    /// A status that would be 200 is 524, for good: it was not registered after all.
    Expire,
}

impl Mode {
    /// The name in the table and in the ledger.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Error => "error",
            Self::Refuse => "refuse",
            Self::Hang => "hang",
            Self::CommitThenDrop => "commit_then_drop",
            Self::DropBeforeCommit => "drop_before_commit",
            Self::CommitLate => "commit_late",
            Self::Stuck => "stuck",
            Self::Lag => "lag",
            Self::Garbage => "garbage",
            Self::Fail => "fail",
            Self::Expire => "expire",
        }
    }

    /// Can it strike this target under this name of the table?
    pub(super) fn suits(self, name: &str, target: Target) -> bool {
        match self {
            Self::Stuck => matches!(target, Target::Report | Target::OrangeStatus),
            Self::Fail => target == Target::Report,
            Self::Expire => target == Target::OrangeStatus,
            Self::Lag if name == "fiscal" => target == Target::Lookup,
            Self::Lag => matches!(
                target,
                Target::Lookup | Target::Report | Target::Document | Target::OrangeStatus
            ),
            _ => true,
        }
    }
}
