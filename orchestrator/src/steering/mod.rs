//! What operators do to receipts: judged here, for one as for many, and moved by one guarded statement a batch.

mod act;
mod judge;

pub use act::{Plan, carry_out, plan};
pub use judge::Refusal;

/// An action upon a receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Its timer is due now.
    Retry,
    /// It ends here.
    Cancel,
    /// Parked, it goes on where it stands.
    Release,
    /// Rejected, it goes on at the stage that rejected it, on the current pipeline.
    Reopen,
    /// It goes on with an earlier stage.
    Restart {
        /// Its name.
        stage: String,
    },
}

impl Action {
    /// Its word, in paths, in jobs and on record.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Cancel => "cancel",
            Self::Release => "release",
            Self::Reopen => "reopen",
            Self::Restart { .. } => "restart",
        }
    }

    /// Reads the word, and the stage that a restart has.
    #[must_use]
    pub fn read(name: &str, stage: Option<&str>) -> Option<Self> {
        let action = match (name, stage) {
            ("restart", Some(stage)) => Self::Restart {
                stage: stage.to_owned(),
            },
            ("retry", None) => Self::Retry,
            ("cancel", None) => Self::Cancel,
            ("release", None) => Self::Release,
            ("reopen", None) => Self::Reopen,
            _ => return None,
        };
        Some(action)
    }

    /// The stage of a restart.
    #[must_use]
    pub fn stage(&self) -> Option<&str> {
        match self {
            Self::Restart { stage } => Some(stage),
            _ => None,
        }
    }

    /// What the receipt shows as its reason.
    fn said(&self, who: &str) -> String {
        match self {
            Self::Retry => format!("to be tried now, by {who}"),
            Self::Cancel => format!("cancelled by {who}"),
            Self::Release => format!("released by {who}"),
            Self::Reopen => format!("reopened by {who}"),
            Self::Restart { stage } => format!("restarted from {stage} by {who}"),
        }
    }
}
