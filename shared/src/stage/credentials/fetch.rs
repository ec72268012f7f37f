//! One fetch of a token: the request, and what its answer says.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_TYPE;
use tracing::Instrument;
use uuid::Uuid;

use super::{Credentials, Renewer};
use crate::configuration::Secret;
use crate::pipeline::{Effect, Exchange, Rendered, Verdict, default_verdict};
use crate::stage::spans;

/// The lives that a token may have.
const LIVES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24 * 366));

/// Why a token was not fetched; nothing of the answer's body is quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no token could be fetched: {reason}")]
pub struct Failure {
    /// What happened.
    pub reason: String,
    /// `Retry-After`, bounded as everywhere.
    pub after: Option<Duration>,
}

/// What a fetch brought.
pub(super) struct Fetched {
    pub token: Secret,
    pub life: Duration,
}

impl Credentials {
    /// Makes the one request. It ends within the endpoint's timeout.
    pub(super) async fn fetch(&self, by: &Renewer<'_>) -> Result<Fetched, Failure> {
        let request = Rendered {
            method: Method::POST,
            path_and_query: self.source.post.clone(),
            headers: vec![(CONTENT_TYPE.to_string(), self.source.content_type.clone())],
            body: Some(Bytes::copy_from_slice(self.source.body.expose().as_bytes())),
        };
        let request = by.endpoint.signed(request).await.map_err(|error| Failure {
            reason: error.to_string(),
            after: None,
        })?;
        let span = spans::token(by.trace, by.endpoint, &self.source.post);
        let trace = by.trace.of(&span);
        let key = Uuid::new_v4().to_string();
        let exchange = by
            .endpoints
            .call(by.endpoint, &request, None, &key, &trace, None)
            .instrument(span.clone())
            .await;
        spans::exchanged(&span, &exchange);
        self.read(&exchange)
    }

    fn read(&self, exchange: &Exchange) -> Result<Fetched, Failure> {
        let failure = |reason: String, after| Failure { reason, after };
        match (default_verdict(Effect::Idempotent, exchange, true), exchange) {
            (Verdict::Success { .. }, Exchange::Answered { body, .. }) => {
                let token = self.token.text(body);
                let token = token.map_err(|error| failure(format!("its answer has no token: {error}"), None))?;
                let life = self.life(body).ok_or_else(|| {
                    failure(
                        "its answer does not say for how long the token is good".to_owned(),
                        None,
                    )
                })?;
                if token.is_empty() {
                    return Err(failure("its answer has an empty token".to_owned(), None));
                }
                Ok(Fetched {
                    token: Secret::new(token),
                    life: life.clamp(LIVES.0, LIVES.1),
                })
            }
            (Verdict::Retry { reason, after }, _) => Err(failure(reason, after)),
            (verdict, _) => Err(failure(verdict.reason().unwrap_or("no answer").to_owned(), None)),
        }
    }

    fn life(&self, body: &[u8]) -> Option<Duration> {
        let Some(expires_in) = &self.expires_in else {
            return self.source.life;
        };
        let seconds: f64 = expires_in.text(body).ok()?.parse().ok()?;
        Duration::try_from_secs_f64(seconds).ok().filter(|life| !life.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;
    use crate::configuration::TokenSource;

    fn credentials(more: &str) -> Credentials {
        let source: TokenSource =
            serde_json::from_str(&format!(r#"{{"post": "/token", "body": "{{}}"{more}}}"#)).unwrap();
        let key = serde_json::from_value("0".repeat(64).into()).unwrap();
        Credentials::new("fiscal", &source, &key).unwrap()
    }

    fn answered(status: u16, body: &'static str) -> Exchange {
        Exchange::Answered {
            status,
            headers: HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("7"))]),
            body: body.into(),
            complete: true,
        }
    }

    #[test]
    fn an_answer_says_the_token_and_for_how_long_it_is_good() {
        let read = |more, body| {
            credentials(more)
                .read(&answered(200, body))
                .map(|fetched| (fetched.token, fetched.life))
        };
        let token = || Secret::new("t".to_owned());
        let hour = Duration::from_hours(1);
        assert_eq!(read("", r#"{"token": "t", "expires_in": 3600}"#), Ok((token(), hour)));
        assert_eq!(
            read("", r#"{"token": "t", "expires_in": "3600.0"}"#),
            Ok((token(), hour))
        );
        let own = r#", "token": ".body.access", "expires_in": ".body.minutes * 60""#;
        assert_eq!(read(own, r#"{"access": "t", "minutes": 60}"#), Ok((token(), hour)));
        assert_eq!(read(r#", "life": "1h""#, r#"{"token": "t"}"#), Ok((token(), hour)));
        for wrong in [
            r#"{"token": "t"}"#,
            r#"{"token": "t", "expires_in": -1}"#,
            r#"{"token": "t", "expires_in": 0}"#,
            r#"{"token": "", "expires_in": 1}"#,
            r#"{"expires_in": 1, "secret": "t"}"#,
            "<html>",
            "",
        ] {
            let failure = read("", wrong).unwrap_err();
            assert!(!failure.reason.contains("secret"), "{failure}");
        }
    }

    #[test]
    fn what_went_wrong_is_said_and_whether_to_wait() {
        let read = |exchange| {
            credentials("")
                .read(&exchange)
                .err()
                .map(|failure| (failure.reason, failure.after))
        };
        assert_eq!(read(answered(401, "{}")), Some(("answered 401".to_owned(), None)));
        let after = Some(Duration::from_secs(7));
        assert_eq!(read(answered(429, "{}")), Some(("answered 429".to_owned(), after)));
        let lost = Exchange::Lost {
            error: "why".to_owned(),
        };
        assert_eq!(read(lost), Some(("gave no answer: why".to_owned(), None)));
    }
}
