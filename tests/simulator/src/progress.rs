//! What becomes of a registration that was accepted: it waits, and is done after a while, unless a fault says that it failed.

use std::time::{Duration, Instant};

use crate::faults::{Fault, Mode};

/// The way of one registration.
#[derive(Debug)]
pub(crate) struct Progress {
    since: Instant,
    verdict: Verdict,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Open,
    Done,
    /// With the type of its error.
    Failed(String),
}

impl Progress {
    /// Accepted now.
    pub(crate) fn begin() -> Self {
        Self {
            since: Instant::now(),
            verdict: Verdict::Open,
        }
    }

    /// Somebody asks how far it is. True if it has failed just now.
    pub(crate) fn ask(&mut self, done_after: Duration, fault: Option<&Fault>) -> bool {
        let mode = fault.map(|fault| fault.mode);
        if self.verdict != Verdict::Open || !self.is_due(done_after) || mode == Some(Mode::Stuck) {
            return false;
        }
        let failure = fault.filter(|fault| matches!(fault.mode, Mode::Fail | Mode::Expire));
        self.verdict = failure.map_or(Verdict::Done, |fault| Verdict::Failed(fault.error_type().to_owned()));
        failure.is_some()
    }

    /// How far it was when somebody asked last.
    pub(crate) fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Is it done, whether or not somebody asked?
    pub(crate) fn is_done(&self, done_after: Duration) -> bool {
        match self.verdict {
            Verdict::Open => self.is_due(done_after),
            Verdict::Done => true,
            Verdict::Failed(_) => false,
        }
    }

    /// Can it be found yet?
    pub(crate) fn is_visible(&self, fault: Option<&Fault>) -> bool {
        let lag = fault.filter(|fault| fault.mode == Mode::Lag).map(Fault::latency);
        lag.is_none_or(|lag| self.since.elapsed() >= lag)
    }

    fn is_due(&self, done_after: Duration) -> bool {
        self.since.elapsed() >= done_after
    }
}
