//! When a destination has failed as such, not for one receipt: decided from the last calls of this dispatcher.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use shared::pipeline::{Exchange, Verdict};
use shared::stage::Seen;
use uuid::Uuid;

/// So many calls are judged at least, however old; and all that ended within [`RECENT`]. At any rate an outage closes the
/// destination after half of that time.
const LAST: usize = 20;
const RECENT: Duration = Duration::from_millis(500);
/// So many different receipts have to fail: one that poisons every call of its own closes nothing.
const RECEIPTS: usize = 5;

/// By how much the same opening may be told differently: from the database's clock, at each reading.
const NEWER: Duration = Duration::from_millis(500);

/// The last calls.
#[derive(Debug, Default)]
pub struct Breaker {
    calls: VecDeque<(Instant, Uuid, bool)>,
    /// Calls that began before say nothing about now.
    since: Option<Instant>,
}

/// What a call says about its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sign {
    /// It answered.
    Life,
    /// It failed, for this reason.
    Failure(String),
    /// It told everybody to wait for so long.
    Wait(Duration, String),
    /// It refused credentials that are good, whoever calls with them.
    Refused(String),
}

impl Sign {
    /// Reads the sign: no answer, an answer that says "not now" or "my fault", credentials refused, or an answer later than
    /// `slow`, is a failure; whatever else was said, somebody was there to say it.
    #[must_use]
    pub fn of(call: &Seen<'_>, took: Duration, slow: Duration) -> Self {
        let reason = || call.verdict.reason().unwrap_or("it failed").to_owned();
        let again = matches!(
            call.verdict,
            Verdict::Retry { .. } | Verdict::Unknown { .. } | Verdict::Credentials { .. }
        );
        match (call.exchange, call.verdict) {
            _ if call.refused => Self::Refused(reason()),
            // There is no token, and who gives them out told to wait.
            (Exchange::NotSent { .. }, Verdict::Retry { after: Some(after), .. }) => Self::Wait(*after, reason()),
            (Exchange::NotSent { .. } | Exchange::Lost { .. }, _) => Self::Failure(reason()),
            (Exchange::Answered { status, .. }, verdict) => match (status, verdict) {
                (429 | 503, Verdict::Retry { after: Some(after), .. }) => Self::Wait(*after, reason()),
                (401 | 403 | 408 | 425 | 429 | 500.., _) if again => Self::Failure(reason()),
                (_, Verdict::Unknown { .. }) => Self::Failure(reason()),
                _ if took >= slow => Self::Failure(format!("answers take {slow:?} and more")),
                _ => Self::Life,
            },
        }
    }
}

impl Breaker {
    /// Begins anew if the destination has opened since.
    pub fn opened(&mut self, at: Option<Instant>) {
        let newer = |at: Instant| self.since.is_none_or(|since| at > since + NEWER);
        if let Some(at) = at.filter(|at| newer(*at)) {
            self.calls.clear();
            self.since = Some(at);
        }
    }

    /// Takes note of a call that began at `begun` and ended `now`; answers whether the destination has failed by now: at least
    /// half of the last calls failed, for several receipts.
    pub fn note(&mut self, receipt: Uuid, begun: Instant, now: Instant, failed: bool) -> bool {
        if self.since.is_some_and(|since| begun < since) {
            return false;
        }
        self.calls.push_back((now, receipt, failed));
        while self.calls.len() > LAST
            && self
                .calls
                .front()
                .is_some_and(|(ended, ..)| now.duration_since(*ended) > RECENT)
        {
            self.calls.pop_front();
        }
        if !failed {
            return false;
        }
        let failures = self.calls.iter().filter(|(.., failed)| *failed);
        let receipts: HashSet<Uuid> = failures.clone().map(|(_, receipt, _)| *receipt).collect();
        receipts.len() >= RECEIPTS && failures.count() * 2 >= self.calls.len()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answered(status: u16) -> Exchange {
        Exchange::Answered {
            status,
            headers: HeaderMap::new(),
            body: "{}".into(),
            complete: true,
        }
    }

    fn sign(exchange: &Exchange, verdict: &Verdict, took: u64) -> Sign {
        let call = Seen {
            receipt: Uuid::nil(),
            begun: Instant::now(),
            exchange,
            verdict,
            refused: false,
        };
        Sign::of(&call, Duration::from_secs(took), Duration::from_secs(5))
    }

    fn retry(after: Option<Duration>) -> Verdict {
        Verdict::Retry {
            reason: "why".to_owned(),
            after,
        }
    }

    #[test]
    fn any_answer_is_a_sign_of_life_but_that_of_a_failure() {
        let failed = Sign::Failure("why".to_owned());
        let lost = Exchange::Lost { error: String::new() };
        let unknown = Verdict::Unknown {
            reason: "why".to_owned(),
        };
        let rejected = Verdict::Reject {
            reason: "why".to_owned(),
            declared: true,
        };
        assert_eq!(sign(&lost, &unknown, 1), failed);
        assert_eq!(sign(&answered(500), &unknown, 1), failed);
        assert_eq!(sign(&answered(503), &retry(None), 1), failed);
        assert_eq!(sign(&answered(200), &unknown, 1), failed, "garbage");
        assert_eq!(sign(&answered(422), &rejected, 1), Sign::Life);
        assert_eq!(
            sign(&answered(524), &rejected, 1),
            Sign::Life,
            "the pipeline knows what it means"
        );
        assert_eq!(sign(&answered(404), &retry(None), 1), Sign::Life, "not there yet");
        assert!(
            matches!(sign(&answered(200), &rejected, 6), Sign::Failure(_)),
            "too slow"
        );
        let after = Duration::from_secs(5);
        assert_eq!(
            sign(&answered(429), &retry(Some(after)), 1),
            Sign::Wait(after, "why".to_owned())
        );
        let no_token = Exchange::NotSent { error: String::new() };
        assert_eq!(sign(&no_token, &retry(None), 1), failed);
        assert_eq!(
            sign(&no_token, &retry(Some(after)), 1),
            Sign::Wait(after, "why".to_owned()),
            "who gives out tokens told to wait"
        );
    }

    #[test]
    fn one_poisoned_receipt_closes_nothing_and_five_that_fail_do() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert!((0..50).all(|_| !breaker.note(Uuid::nil(), now, now, true)));
        assert!((1..4).all(|n| !breaker.note(Uuid::from_u128(n), now, now, true)));
        assert!(breaker.note(Uuid::from_u128(4), now, now, true));
    }

    #[test]
    fn a_few_failures_among_many_answers_close_nothing() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for n in 0..1000 {
            assert!(!breaker.note(Uuid::from_u128(n), now, now, n % 20 == 0));
        }
    }

    #[test]
    fn an_outage_closes_as_soon_at_a_high_rate() {
        let (mut breaker, begun) = (Breaker::default(), Instant::now());
        let mut at = |n: u64, failed| {
            let now = begun + Duration::from_micros(500 * n);
            breaker.note(Uuid::from_u128(n.into()), now, now, failed)
        };
        assert!((0..10_000).all(|n| !at(n, false)));
        let failures = (10_000..20_000).position(|n| at(n, true));
        assert_eq!(failures, Some(500), "2,000 calls a second for a quarter of it");
    }

    #[test]
    fn what_began_before_the_destination_opened_says_nothing() {
        let (mut breaker, begun) = (Breaker::default(), Instant::now());
        breaker.opened(Some(begun + Duration::from_secs(1)));
        let ended = begun + Duration::from_secs(9);
        assert!((0..50).all(|n| !breaker.note(Uuid::from_u128(n), begun, ended, true)));
    }

    #[test]
    fn of_a_slow_destination_old_calls_count_as_well() {
        let (mut breaker, begun) = (Breaker::default(), Instant::now());
        let at = |n: u64| begun + Duration::from_secs(20 * n);
        let closed: Vec<_> = (0..5)
            .map(|n| breaker.note(Uuid::from_u128(n.into()), at(n), at(n), true))
            .collect();
        assert_eq!(closed, [false, false, false, false, true]);
    }
}
