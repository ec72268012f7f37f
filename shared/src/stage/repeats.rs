//! A call to a destination that gives out tokens: made with the one for all, and repeated when that was refused and there is
//! another. Each repeat is a call like any other: it waits for its turn and goes on record; its id and bytes are the same.
//!
//! A call that was answered 401 was not done: repeating it registers nothing twice.

use std::time::Instant;

use super::attempt::Attempt;
use super::call::{Aim, Unmade, complete, row, send};
use super::credentials::{Credentials, NoToken, Renewer};
use super::endpoint::{Endpoint, Seen};
use crate::pipeline::{Exchange, Rendered, Verdict};
use crate::store::step::Call;

/// The most repeats of a call: with the token that another process had fetched, and with one that was fetched for it.
const REPEATS: usize = 2;

/// A request that is to be sent, and what for.
pub(super) struct Asked<'a> {
    pub attempt: &'a Attempt<'a>,
    pub aim: &'a Aim<'a>,
    pub endpoint: &'a Endpoint,
    pub rendered: &'a Rendered,
}

/// What sending it came to.
pub(super) struct Sent {
    pub verdict: Verdict,
    /// Every call that was made.
    pub calls: Vec<Call>,
}

/// One call.
struct Once {
    begun: Instant,
    exchange: Exchange,
    verdict: Verdict,
    row: Call,
    /// The version of the token that it was made with; 0 without one.
    version: i64,
}

/// Sends a request, and again with another token where one was refused.
pub(super) async fn repeated(asked: &Asked<'_>) -> Result<Sent, Unmade> {
    let Some(credentials) = asked.endpoint.credentials() else {
        let once = once(asked, 0).await?;
        return Ok(asked.saw(once, Vec::new(), false));
    };
    let by = Renewer {
        endpoints: asked.attempt.endpoints,
        endpoint: asked.endpoint,
        admission: asked.attempt.admission,
        pool: asked.attempt.pool,
        instance: asked.aim.work.hold.owner,
        trace: &asked.attempt.trace,
    };
    if let Err(error) = Box::pin(credentials.ready(&by)).await {
        return without_token(asked, error);
    }
    let mut last = once(asked, 0).await?;
    let mut calls = Vec::new();
    for _ in 0..REPEATS {
        if !matches!(last.verdict, Verdict::Credentials { .. }) {
            break;
        }
        match Box::pin(credentials.instead_of(last.version, &by)).await {
            Ok(_) => {}
            Err(NoToken::Young) => break,
            Err(error) => {
                add(&mut last.verdict, &error);
                return Ok(asked.saw(last, calls, false));
            }
        }
        // What cannot be repeated has been answered all the same.
        let Ok(next) = once(asked, calls.len() + 1).await else {
            break;
        };
        calls.push(std::mem::replace(&mut last, next).row);
    }
    let refused = refuses(credentials, asked, &mut last);
    Ok(asked.saw(last, calls, refused))
}

/// Whether good credentials were refused: a token that is as new as can be, and that nobody was answered well with.
fn refuses(credentials: &Credentials, asked: &Asked<'_>, last: &mut Once) -> bool {
    let Verdict::Credentials { reason } = &mut last.verdict else {
        return false;
    };
    if credentials.is_proven(last.version) || credentials.current().is_some_and(|token| token.version > last.version) {
        return false;
    }
    let status = last.row.status.unwrap_or_default();
    *reason = format!(
        "{} refuses good credentials: it answered {status} to a new token",
        asked.endpoint.name
    );
    true
}

fn add(verdict: &mut Verdict, error: &NoToken) {
    if let Verdict::Credentials { reason } = verdict {
        *reason = format!("{reason}, and {error}");
    }
}

/// No call was made.
fn without_token(asked: &Asked<'_>, error: NoToken) -> Result<Sent, Unmade> {
    let reason = format!("{}: {error}", asked.endpoint.name);
    let after = match error {
        NoToken::Shut => return Err(Unmade::Shut),
        NoToken::Store(error) => return Err(Unmade::Store(error)),
        NoToken::Failed(failure) => failure.after,
        NoToken::Young | NoToken::Unsealable(_) => None,
    };
    let exchange = Exchange::NotSent { error: reason.clone() };
    let verdict = Verdict::Retry { reason, after };
    asked.attempt.admission.saw(&Seen {
        receipt: asked.aim.work.hold.id,
        begun: Instant::now(),
        exchange: &exchange,
        verdict: &verdict,
        refused: false,
    });
    Ok(Sent {
        verdict,
        calls: Vec::new(),
    })
}

/// Waits for its turn, makes the call with the newest token, and judges what came of it. It was made so many times before in this
/// attempt.
async fn once(asked: &Asked<'_>, repeats: usize) -> Result<Once, Unmade> {
    let Asked {
        attempt, aim, endpoint, ..
    } = *asked;
    let permit = attempt.admission.admit(endpoint, aim.purpose).await?;
    if !attempt.heart.may_send(aim.work.hold.owner) {
        return Err(Unmade::Fenced);
    }
    let token = endpoint.credentials().and_then(Credentials::current);
    let mut row = row(aim);
    let resends = usize::try_from(aim.work.counters.attempt).unwrap_or_default() + repeats;
    let begun = Instant::now();
    let exchange = send(
        attempt,
        endpoint,
        asked.rendered,
        token.as_deref(),
        aim.request,
        &mut row,
        resends,
    )
    .await;
    drop(permit);

    let verdict = aim.request.judge(aim.subject, aim.call_id, aim.item, &exchange);
    complete(&mut row, endpoint, &exchange, &verdict);
    let version = token.map_or(0, |token| token.version);
    if let (Some(credentials), Exchange::Answered { status: 200..=299, .. }) = (endpoint.credentials(), &exchange) {
        credentials.prove(version);
    }
    Ok(Once {
        begun,
        exchange,
        verdict,
        row,
        version,
    })
}

impl Asked<'_> {
    /// The last call is what the destination is judged by: a token that was refused and replaced says nothing about it.
    fn saw(&self, last: Once, mut calls: Vec<Call>, refused: bool) -> Sent {
        self.attempt.admission.saw(&Seen {
            receipt: self.aim.work.hold.id,
            begun: last.begun,
            exchange: &last.exchange,
            verdict: &last.verdict,
            refused,
        });
        calls.push(last.row);
        Sent {
            verdict: last.verdict,
            calls,
        }
    }
}
