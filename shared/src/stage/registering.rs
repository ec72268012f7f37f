//! The request that registers: made once, or its outcome found out before it is made again.

use super::Unmade;
use super::attempt::Attempt;
use super::call::{Aim, Made, after, make, unrenderable};
use super::lookup::{Found, find};
use super::sends::{Prepared, open, prepare};
use crate::pipeline::{Effect, Late, Verdict};
use crate::store::step::{Call, Standing};

/// Registers, or adopts what an earlier call is known to have come to. `calls`: those that are made on the way, on record
/// whatever follows.
pub(super) async fn register(
    attempt: &Attempt<'_>,
    aim: &Aim<'_>,
    mut standing: Standing,
    calls: &mut Vec<Call>,
) -> Result<Made, Unmade> {
    if standing == Standing::default()
        && let Some(late) = late(attempt, aim)
    {
        return Ok(Made::unsent(late, standing));
    }
    let rendered = match prepare(attempt, aim, standing.unresolved).await? {
        Prepared::Opened(rendered) => rendered,
        Prepared::LookUp(lookup, send) => {
            if let Found::Known(made) = Box::pin(find(attempt, aim, lookup, standing, calls)).await? {
                return Ok(made);
            }
            (standing.unresolved, standing.sent) = (false, false);
            standing.absents = 0;
            if let Some(late) = late(attempt, aim).filter(|_| !standing.registered) {
                return Ok(Made::unsent(late, standing));
            }
            open(attempt, aim.work, &send).await?
        }
        Prepared::Known { value, registered } => {
            let verdict = Verdict::Success { value, registered };
            let standing = after(&verdict, Effect::Registers, standing);
            return Ok(Made::unsent(verdict, standing));
        }
        Prepared::Manual(reason) => {
            let reason = format!("{}: {reason}", aim.stage.name);
            return Ok(Made::unsent(Verdict::Park { reason }, standing));
        }
        Prepared::Unrenderable(error) => return Ok(Made::unsent(unrenderable(aim, &error), standing)),
    };
    match rendered {
        Some(rendered) => make(attempt, aim, rendered, standing).await,
        None => Ok(Made::unsent(
            unrenderable(aim, &"the stored request cannot be read"),
            standing,
        )),
    }
}

/// What becomes of a receipt whose deadline has passed, of which nothing was sent that registers it.
fn late(attempt: &Attempt<'_>, aim: &Aim<'_>) -> Option<Verdict> {
    let is_late = || aim.work.deadline.is_some_and(|deadline| deadline < attempt.heart.now());
    (aim.stage.late == Late::Park && is_late()).then(|| Verdict::Park {
        reason: format!("{}: its deadline has passed", aim.stage.name),
    })
}
