//! How it is found out what came of a call that registers and was not answered.

use std::time::Duration;

use super::Request;

/// What is done before a call that nobody knows about is made again.
pub enum Unknown {
    /// Nothing: the API knows a call id again, and the same bytes under the same id are the look-up.
    Resend {
        /// For so long after the first send; then a person is asked. Absent: for ever.
        window: Option<Duration>,
    },
    /// It is looked up.
    Lookup(Box<Lookup>),
    /// A person finds out.
    Manual,
}

/// A look-up: a request that reads whether a call id is known there.
pub struct Lookup {
    /// Its request. A success has what the call that registers would have come to.
    pub request: Request,
    /// How long after the last call, in time that the destination is open, "absent" is not believed yet.
    pub settle: Duration,
}

impl Unknown {
    /// Whether nothing has to be known before the call is made again.
    #[must_use]
    pub fn always_resends(&self) -> bool {
        matches!(self, Self::Resend { window: None })
    }
}
