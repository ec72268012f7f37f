//! What became of receipts, by what Chekhov says and by what the ledger saw.

use crate::api::Api;
use crate::eventually::in_parallel;
use crate::ledger::Ledger;

/// A receipt that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Chekhov's id.
    pub id: String,
    /// The merchant's id.
    pub merchant: String,
    /// The id it was posted under.
    pub external_id: String,
}

/// The judgement over accepted receipts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many there were.
    pub accepted: usize,
    /// Registered, by both.
    pub registered: usize,
    /// Refused for good.
    pub rejected: usize,
    /// Cancelled by a person.
    pub cancelled: usize,
    /// Left to a person.
    pub parked: Vec<String>,
    /// Still on their way.
    pub unfinished: Vec<String>,
    /// Gone, or said to be registered while the ledger knows nothing of it.
    pub lost: Vec<String>,
    /// In the ledger more than once.
    pub twice: Vec<String>,
    /// In the ledger, while Chekhov has rejected or cancelled it.
    pub denied: Vec<String>,
}

impl Verdict {
    /// Whether nothing was lost, registered twice or denied.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.twice.is_empty() && self.denied.is_empty()
    }

    /// Whether each receipt was registered, exactly once.
    #[must_use]
    pub fn all_registered(&self) -> bool {
        self.is_clean() && self.registered == self.accepted
    }
}

/// Asks Chekhov and the ledger about each receipt.
///
/// # Errors
/// When one of the two does not answer.
pub async fn judge(api: &Api, ledger: &Ledger, posted: &[Posted]) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict {
        accepted: posted.len(),
        ..Verdict::default()
    };
    let known = in_parallel(posted.to_vec(), 8, |posted| {
        let (api, ledger) = (api.clone(), ledger.clone());
        async move {
            let receipt = api.get(&posted.id).await?;
            let entry = ledger.entry(&posted.merchant, &posted.external_id).await?;
            anyhow::Ok((posted, receipt, entry.registered()))
        }
    });
    for known in known.await {
        let (posted, receipt, registrations) = known?;
        let name = format!("{}/{} ({})", posted.merchant, posted.external_id, posted.id);
        if registrations > 1 {
            verdict.twice.push(name.clone());
        }
        let state = receipt.as_ref().map(|receipt| receipt.state.as_str());
        match (state, registrations) {
            (None, _) | (Some("registered"), 0) => verdict.lost.push(name),
            (Some("registered"), _) => verdict.registered += 1,
            (Some("rejected" | "cancelled"), 1..) => verdict.denied.push(name),
            (Some("rejected"), 0) => verdict.rejected += 1,
            (Some("cancelled"), 0) => verdict.cancelled += 1,
            (Some(state), _) => {
                let reason = receipt
                    .as_ref()
                    .and_then(|receipt| receipt.reason.as_deref())
                    .unwrap_or("no reason given");
                let line = format!("{name} is {state}: {reason}");
                let list = if state == "parked" {
                    &mut verdict.parked
                } else {
                    &mut verdict.unfinished
                };
                list.push(line);
            }
        }
    }
    Ok(verdict)
}
