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
    },
    /// Sent and unanswered.
    Unknown {
        /// Why.
        reason: String,
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

/// What an exchange comes to when no rule of the request matches. A success has no value yet.
#[must_use]
pub fn default_verdict(effect: Effect, exchange: &Exchange) -> Verdict {
    let (status, headers, readable) = match exchange {
        Exchange::NotSent { error } => {
            return Verdict::Retry {
                reason: format!("could not be reached: {error}"),
                after: None,
            };
        }
        Exchange::Lost { error } => return unknown(effect, format!("gave no answer: {error}")),
        Exchange::Answered {
            status,
            headers,
            body,
            complete,
        } => (*status, headers, *complete && readable(body)),
    };
    let reason = format!("answered {status}");
    match status {
        200..=299 if readable => Verdict::Success {
            value: "null".to_owned(),
            registered: false,
        },
        200..=299 => unknown(effect, format!("answered {status} with a body that cannot be read")),
        425 | 429 | 503 => Verdict::Retry {
            reason,
            after: retry_after(headers),
        },
        408 | 500..=599 => unknown(effect, reason),
        401 | 403 => Verdict::Credentials { reason },
        400 | 422 => Verdict::Reject { reason },
        _ => Verdict::Undeclared { reason },
    }
}

fn readable(body: &[u8]) -> bool {
    body.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
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

/// What a receipt's standing makes of an outcome: while a call is unresolved nothing rejects, and once it is registered
/// nothing rejects or reissues it at all. `undeclared` such answers came before this one.
#[must_use]
pub fn constrain(verdict: Verdict, effect: Effect, unresolved: bool, registered: bool, undeclared: u32) -> Verdict {
    match verdict {
        Verdict::Reject { reason } | Verdict::Reissue { reason, .. } if registered => Verdict::Park {
            reason: format!("{reason}; it is registered, and nothing rejects it any more"),
        },
        Verdict::Reject { reason } if unresolved => Verdict::Park {
            reason: format!("{reason}; an earlier call may have registered it, and nobody knows"),
        },
        Verdict::Undeclared { reason } if undeclared + 1 >= UNDECLARED => Verdict::Park {
            reason: format!("{reason}, which nobody declared, {UNDECLARED} times"),
        },
        Verdict::Undeclared { reason } | Verdict::Credentials { reason } => Verdict::Retry { reason, after: None },
        Verdict::Unknown { reason } if effect != Effect::Registers => Verdict::Retry { reason, after: None },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answered(status: u16, body: &'static str) -> Exchange {
        Exchange::Answered {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            complete: true,
        }
    }

    fn name(verdict: &Verdict) -> &'static str {
        crate::stage::attempt::name(verdict)
    }

    #[test]
    fn the_table_of_default_outcomes() {
        for effect in [Effect::Read, Effect::Idempotent, Effect::Registers] {
            let lost = if effect == Effect::Registers {
                "unknown"
            } else {
                "retry"
            };
            let rows = [
                (answered(200, "{}"), "success"),
                (answered(204, ""), "success"),
                (answered(200, "<html>"), lost),
                (Exchange::NotSent { error: String::new() }, "retry"),
                (Exchange::Lost { error: String::new() }, lost),
                (answered(425, ""), "retry"),
                (answered(429, ""), "retry"),
                (answered(503, ""), "retry"),
                (answered(408, ""), lost),
                (answered(500, ""), lost),
                (answered(502, "<html>"), lost),
                (answered(401, ""), "retry"),
                (answered(400, ""), "reject"),
                (answered(422, ""), "reject"),
            ];
            for (exchange, expected) in rows {
                assert_eq!(
                    name(&default_verdict(effect, &exchange)),
                    expected,
                    "{effect:?} {exchange:?}"
                );
            }
            for status in [100, 301, 404, 409, 418] {
                assert!(
                    matches!(
                        default_verdict(effect, &answered(status, "")),
                        Verdict::Undeclared { .. }
                    ),
                    "{status}"
                );
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let after = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
            headers.insert("retry-after", text.parse().unwrap());
            retry_after(&headers).map(|wait| wait.as_secs())
        };
        assert_eq!(after("20"), Some(20));
        assert_eq!(after("0"), Some(1));
        assert_eq!(after("99999999999999999999999"), Some(3600));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
        assert_eq!(after("Sun, 06 Nov 1994 07:00:00 GMT"), Some(1));
        for garbage in ["-5", "soon", "1.5", ""] {
            assert_eq!(after(garbage), None, "{garbage}");
        }
    }

    fn any_effect() -> impl Strategy<Value = Effect> {
        prop_oneof![Just(Effect::Read), Just(Effect::Idempotent), Just(Effect::Registers)]
    }

    proptest! {
        #[test]
        fn nothing_is_rejected_while_unresolved_or_once_registered(
            status in 100u16..=599, effect in any_effect(), unresolved: bool, registered: bool, before in 0u32..5, complete: bool,
        ) {
            let exchange = Exchange::Answered { status, headers: HeaderMap::new(), body: Bytes::from_static(b"{}"), complete };
            let verdict = constrain(default_verdict(effect, &exchange), effect, unresolved, registered, before);
            let rejected = matches!(verdict, Verdict::Reject { .. } | Verdict::Reissue { .. });
            prop_assert!(!(rejected && (unresolved || registered)));
            let kept = matches!(verdict, Verdict::Undeclared { .. } | Verdict::Credentials { .. });
            prop_assert!(!kept);
            let success = matches!(verdict, Verdict::Success { .. });
            prop_assert!(!success || (200..300).contains(&status) && complete);
        }

        #[test]
        fn what_was_sent_and_not_answered_is_never_a_plain_retry_for_a_request_that_registers(status in 500u16..=599) {
            let verdict = default_verdict(Effect::Registers, &answered(status, "{}"));
            prop_assert_eq!(matches!(verdict, Verdict::Unknown { .. }), status != 503);
        }
    }
}
