//! The request that registers: made once, or its outcome found out before it is made again.

use super::Unmade;
use super::attempt::Attempt;
use super::call::{Aim, Made, after, make, unrenderable};
use super::lookup::{Found, find};
use super::sends::{Prepared, open, prepare};
use crate::pipeline::{Effect, Late, Verdict};
use crate::store::step::Standing;

/// Registers, or adopts what an earlier call is known to have come to.
pub(super) async fn register(attempt: &Attempt<'_>, aim: &Aim<'_>, mut standing: Standing) -> Result<Made, Unmade> {
    let mut calls = Vec::new();
    if aim.stage.late == Late::Park
        && standing == Standing::default()
        && aim.work.deadline.is_some_and(|deadline| deadline < attempt.heart.now())
    {
        let reason = format!("{}: its deadline has passed", aim.stage.name);
        return Ok(Made::unsent(Verdict::Park { reason }, standing));
    }
    let rendered = match prepare(attempt, aim, standing.unresolved).await? {
        Prepared::Opened(rendered) => rendered,
        Prepared::LookUp(lookup, send) => match find(attempt, aim, lookup, standing).await? {
            Found::Known(made) => return Ok(made),
            Found::Absent(looked) => {
                calls = looked;
                standing.unresolved = false;
                standing.absents = 0;
                open(attempt, aim.work, &send).await?
            }
        },
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
    let made = match rendered {
        Some(rendered) => make(attempt, aim, rendered, standing).await?,
        None => Made::unsent(unrenderable(aim, &"the stored request cannot be read"), standing),
    };
    calls.extend(made.calls);
    Ok(Made { calls, ..made })
}
