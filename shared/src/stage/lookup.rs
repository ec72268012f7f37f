//! Looking up what came of a call that registers and was not answered.
//!
//! "Absent" is no proof: what was accepted may still be in the API's own queue, and a look-up may answer so to everything.
//! It is believed when a look-up said so before, the destination has been open for the settle time since then, and a look-up
//! of a receipt that is known to be registered finds that one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::Unmade;
use super::attempt::Attempt;
use super::call::{Aim, Made, rendered};
use super::endpoint::Purpose;
use crate::pipeline::{Lookup, Subject, To, Verdict};
use crate::store::load::Work;
use crate::store::record;
use crate::store::step::{Call, Standing};

/// How long a look-up is taken to work that has found something.
const PROVED: Duration = Duration::from_secs(10);
/// How long it is taken not to, after it was tried.
const DOUBTED: Duration = Duration::from_secs(2);

/// What is known of look-ups, by pipeline and stage.
#[derive(Debug, Default)]
pub struct Proofs(Mutex<HashMap<(String, String), Proof>>);

/// What a look-up of something that is there came to.
#[derive(Debug)]
struct Proof {
    at: Instant,
    /// Why it is not believed; `None`: it was found.
    doubt: Option<String>,
}

impl Proof {
    fn doubts(why: &str) -> Self {
        Self {
            at: Instant::now(),
            doubt: Some(why.to_owned()),
        }
    }

    fn is_fresh(&self) -> bool {
        self.at.elapsed() < if self.doubt.is_none() { PROVED } else { DOUBTED }
    }
}

/// What a look-up came to.
pub(super) enum Found {
    /// What is known of the call, or that nothing is known yet.
    Known(Made),
    /// The call never was.
    Absent,
}

/// Looks the call of `aim` up; that look-up is added to `calls` if more has to be done to know.
pub(super) async fn find(
    attempt: &Attempt<'_>,
    aim: &Aim<'_>,
    lookup: &Lookup,
    standing: Standing,
    calls: &mut Vec<Call>,
) -> Result<Found, Unmade> {
    let settled = record::settled(attempt.pool, aim.work.hold.id).await?;
    let begun = Instant::now();
    let asks = Aim {
        request: &lookup.request,
        item: None,
        registers: true,
        ..*aim
    };
    let mut made = rendered(attempt, &asks, standing).await?;
    match &mut made.verdict {
        Verdict::Success { .. } => attempt.proofs.keep(aim, begun),
        // The settle time begins with the first.
        Verdict::Absent { again, .. } if standing.absents == 0 => *again = lookup.settle,
        Verdict::Absent { again, .. } if settled < lookup.settle => *again = lookup.settle.saturating_sub(settled),
        Verdict::Absent { reason, .. } => {
            calls.append(&mut made.calls);
            match attempt.proofs.prove(attempt, aim, lookup, standing).await? {
                None => return Ok(Found::Absent),
                Some(doubt) => {
                    made.verdict = Verdict::Retry {
                        reason: format!("{reason}, which is not believed: {doubt}"),
                        after: None,
                    };
                }
            }
        }
        _ => {}
    }
    Ok(Found::Known(made))
}

impl Proofs {
    /// Not while another is being made: that says the same.
    fn keep(&self, aim: &Aim<'_>, at: Instant) {
        if let Ok(mut proofs) = self.0.try_lock() {
            proofs.insert(key(aim), Proof { at, doubt: None });
        }
    }

    /// Whether the look-up finds a receipt that is registered: if not, why not. One asks, the others wait for its answer.
    async fn prove(
        &self,
        attempt: &Attempt<'_>,
        aim: &Aim<'_>,
        lookup: &Lookup,
        standing: Standing,
    ) -> Result<Option<String>, Unmade> {
        let mut proofs = self.0.lock().await;
        if let Some(known) = proofs.get(&key(aim)).filter(|known| known.is_fresh()) {
            return Ok(known.doubt.clone());
        }
        let proof = tried(attempt, aim, lookup, standing).await?;
        let doubt = proof.doubt.clone();
        proofs.insert(key(aim), proof);
        Ok(doubt)
    }
}

/// Looks a receipt up that is registered.
async fn tried(attempt: &Attempt<'_>, aim: &Aim<'_>, lookup: &Lookup, standing: Standing) -> Result<Proof, Unmade> {
    let (pipeline, stage) = (&aim.work.pipeline, &aim.stage.name);
    let Some(reference) = record::reference(attempt.pool, pipeline, stage, lookup.settle).await? else {
        return Ok(Proof::doubts("nothing is registered yet that it could be tried with"));
    };
    let key = match &lookup.request.to {
        To::Destination(name) => attempt.limit_keys.of(name, &reference.content),
        To::Service(_) => Ok(None),
    };
    let Ok(key) = key else {
        return Ok(Proof::doubts(
            "the key of a receipt that it could be tried with cannot be told",
        ));
    };
    let subject = Subject::new(Arc::clone(&reference.content), reference.results);
    let asks = Aim {
        request: &lookup.request,
        subject: &subject,
        call_id: &reference.call_id,
        item: None,
        purpose: Purpose::Reference(key.as_deref()),
        ..*aim
    };
    let made = match rendered(attempt, &asks, standing).await {
        Err(Unmade::Limited(_)) => {
            return Ok(Proof::doubts(
                "the key of a receipt that it could be tried with has no call left for now",
            ));
        }
        made => made?,
    };
    let works = matches!(made.verdict, Verdict::Success { .. });
    let result = if works { "found" } else { made.verdict.name() };
    metrics::counter!("chekhov_lookup_proofs_total", "stage" => stage.clone(), "result" => result).increment(1);
    if works {
        let took = made.calls.last().map(|call| call.duration).unwrap_or_default();
        let at = Instant::now().checked_sub(took).unwrap_or_else(Instant::now);
        return Ok(Proof { at, doubt: None });
    }
    tracing::warn!(receipt.id = %reference.id, stage, result, "a look-up does not find a receipt that is registered");
    Ok(Proof::doubts(&format!(
        "the look-up of a receipt that is registered came to {result}"
    )))
}

fn key(aim: &Aim<'_>) -> (String, String) {
    let Work { pipeline, .. } = aim.work;
    (pipeline.clone(), aim.stage.name.clone())
}
