//! What a call came to: the table of default outcomes, and what a receipt's standing makes of an outcome.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

/// What repeating a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Read,
    /// No harm, with the same key.
    Idempotent,
    /// It registers: it must happen once.
    Registers,
}

/// What happened on the wire.
#[derive(Debug, Clone)]
pub enum Exchange {
    /// An answer came.
    Answered {
        /// HTTP status.
        status: u16,
        /// Its headers.
        headers: HeaderMap,
        /// Its body; empty if it was not complete.
        body: Bytes,
        /// Whether the body was read to its end.
        complete: bool,
    },
    /// No byte of the request was sent.
    NotSent {
        /// Why.
        error: String,
    },
    /// It was sent, or may have been, and no answer came.
    Lost {
        /// Why.
        error: String,
    },
}

/// What a call, or an attempt, came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It succeeded.
    Success {
        /// What it came to, as JSON.
        value: String,
        /// The receipt is known to be registered from here on.
        registered: bool,
    },
    /// Again, later.
    Retry {
        /// Why.
        reason: String,
        /// `Retry-After`, bounded to 1 s … 1 h.
        after: Option<Duration>,
    },
    /// Not yet: ask again.
    Poll {
        /// Why.
        reason: String,
    },
    /// Final.
    Reject {
        /// Why.
        reason: String,
        /// A rule of the pipeline says so, not the table.
        declared: bool,
    },
    /// Sent and unanswered.
    Unknown {
        /// Why.
        reason: String,
    },
    /// A look-up does not find it.
    Absent {
        /// Why.
        reason: String,
        /// When it is looked up again.
        again: Duration,
    },
    /// Known to have failed there: again, from that stage, with a new call id.
    Reissue {
        /// The stage's index.
        stage: usize,
        /// Why.
        reason: String,
    },
    /// Nobody declared it: parked after three.
    Undeclared {
        /// Why.
        reason: String,
    },
    /// Our credentials were refused.
    Credentials {
        /// Why.
        reason: String,
    },
    /// A person's turn.
    Park {
        /// Why.
        reason: String,
    },
}

/// Answers that nobody declared, after which a receipt is parked.
const UNDECLARED: u32 = 3;

impl Verdict {
    /// The outcome's word, as it stands in `calls` and in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Success { .. } => "success",
            Self::Retry { .. } | Self::Undeclared { .. } | Self::Credentials { .. } => "retry",
            Self::Poll { .. } => "poll",
            Self::Reject { .. } => "reject",
            Self::Unknown { .. } => "unknown",
            Self::Absent { .. } => "absent",
            Self::Reissue { .. } => "reissue",
            Self::Park { .. } => "park",
        }
    }

    /// The reason it gives.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Success { .. } => None,
            Self::Retry { reason, .. }
            | Self::Undeclared { reason }
            | Self::Credentials { reason }
            | Self::Poll { reason }
            | Self::Reject { reason, .. }
            | Self::Unknown { reason }
            | Self::Absent { reason, .. }
            | Self::Reissue { reason, .. }
            | Self::Park { reason } => Some(reason),
        }
    }
}

/// What an exchange comes to when no rule of the request matches; `readable`: its body is whole, and JSON or empty.
/// A success has no value yet.
#[must_use]
pub fn default_verdict(effect: Effect, exchange: &Exchange, readable: bool) -> Verdict {
    let (status, headers) = match exchange {
        Exchange::NotSent { error } => {
            return Verdict::Retry {
                reason: format!("could not be reached: {error}"),
                after: None,
            };
        }
        Exchange::Lost { error } => return unknown(effect, format!("gave no answer: {error}")),
        Exchange::Answered { status, headers, .. } => (*status, headers),
    };
    let reason = format!("answered {status}");
    match status {
        425 | 429 | 503 => Verdict::Retry {
            reason,
            after: retry_after(headers),
        },
        // What broke off may have meant anything.
        _ if matches!(exchange, Exchange::Answered { complete: false, .. }) => {
            unknown(effect, format!("answered {status} with a body that broke off"))
        }
        200..=299 if readable => Verdict::Success {
            value: "null".to_owned(),
            registered: false,
        },
        200..=299 => unknown(effect, format!("answered {status} with a body that cannot be read")),
        408 | 500..=599 => unknown(effect, reason),
        401 | 403 => Verdict::Credentials { reason },
        400 | 422 => Verdict::Reject {
            reason,
            declared: false,
        },
        _ => Verdict::Undeclared { reason },
    }
}

fn unknown(effect: Effect, reason: String) -> Verdict {
    match effect {
        Effect::Registers => Verdict::Unknown { reason },
        Effect::Read | Effect::Idempotent => Verdict::Retry { reason, after: None },
    }
}

/// `Retry-After`: seconds, or a date against the answer's own `Date`; bounded to 1 s … 1 h. Garbage is none.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let header = |name: http::HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let text = header(http::header::RETRY_AFTER)?;
    let wait = if !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let until = httpdate::parse_http_date(text).ok()?;
        let now = header(http::header::DATE)
            .and_then(|date| httpdate::parse_http_date(date).ok())
            .unwrap_or_else(std::time::SystemTime::now);
        until.duration_since(now).unwrap_or_default()
    };
    Some(wait.clamp(Duration::from_secs(1), Duration::from_hours(1)))
}

/// What a receipt's standing makes of an outcome. While a call is unresolved nothing rejects or reissues but a rule about
/// what another request read (a report that says it failed); once it is registered nothing does at all.
/// `undeclared` answers that nobody declared came before this one.
#[must_use]
pub fn constrain(verdict: Verdict, effect: Effect, unresolved: bool, registered: bool, undeclared: u32) -> Verdict {
    match verdict {
        Verdict::Reject { reason, .. } | Verdict::Reissue { reason, .. } if registered => Verdict::Park {
            reason: format!("{reason}; it is registered, and nothing rejects it any more"),
        },
        Verdict::Reject { reason, declared } if unresolved && (!declared || effect == Effect::Registers) => {
            Verdict::Park {
                reason: format!("{reason}; an earlier call may have registered it, and nobody knows"),
            }
        }
        Verdict::Reissue { reason, .. } if unresolved && effect == Effect::Registers => Verdict::Park {
            reason: format!("{reason}; an earlier call may have registered it, and nobody knows"),
        },
        Verdict::Undeclared { reason } if undeclared + 1 >= UNDECLARED => Verdict::Park {
            reason: format!("{reason}, which nobody declared, {UNDECLARED} times"),
        },
        Verdict::Unknown { reason } if effect != Effect::Registers => Verdict::Retry { reason, after: None },
        other => other,
    }
}

#[cfg(test)]
mod tests;
