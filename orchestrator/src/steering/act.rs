//! A batch of receipts: read, judged, moved.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::pipeline::Pipeline;
use shared::stage::{Versions, versions};
use shared::store::StoreError;
use shared::store::steer::{self, Move, seen};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::Action;
use super::judge::{self, Refusal};

/// What an action would do.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What may be moved.
    pub moves: Vec<Move>,
    /// What may not, and why.
    pub refused: Vec<(Uuid, Refusal)>,
    /// The version of the pipeline that reopened receipts go on with.
    pipeline: String,
}

/// Reads `ids` and judges what `action` may do to each.
///
/// # Errors
/// When the database does not answer.
pub async fn plan(pool: &PgPool, versions: &Versions, action: &Action, ids: &[Uuid]) -> Result<Plan, StoreError> {
    let open = seen::open(pool, ids).await?;
    let rest: Vec<Uuid> = ids.iter().filter(|id| !open.contains_key(id)).copied().collect();
    let ended = if rest.is_empty() {
        HashMap::new()
    } else {
        seen::ended(pool, &rest).await?
    };
    let began = open.values().map(|seen| &seen.pipeline);
    let pipelines = pipelines(versions, began.chain(ended.values().map(|seen| &seen.pipeline))).await?;
    let current = versions.current();
    let mut plan = Plan {
        pipeline: current.version.clone(),
        ..Plan::default()
    };
    // What was called for by the numbers that are in use: a restart is refused where one of them may have registered it.
    let mut calls = Vec::new();
    for id in ids {
        let judged = match (open.get(id), ended.get(id)) {
            (Some(seen), _) => judge::open(action, seen, pipelines.get(&seen.pipeline).map(Arc::as_ref)),
            (None, Some(seen)) => {
                let began = pipelines.get(&seen.pipeline).map(Arc::as_ref);
                judge::ended(action, seen, current, began)
            }
            (None, None) => Err(Refusal::Unknown),
        };
        match judged {
            Ok(one) => {
                if let (true, Some(seen)) = (one.registers, open.get(id))
                    && let Some(pipeline) = pipelines.get(&seen.pipeline)
                {
                    let made = judge::registering(seen, pipeline, one.position);
                    calls.extend(made.into_iter().map(|call_id| (*id, call_id)));
                }
                plan.moves.push(one);
            }
            Err(refusal) => plan.refused.push((*id, refusal)),
        }
    }
    if !calls.is_empty() {
        let doubtful = seen::doubtful(pool, &calls).await?;
        plan.moves.retain(|one| !doubtful.contains(&one.id));
        plan.refused
            .extend(doubtful.into_iter().map(|id| (id, Refusal::Doubtful)));
    }
    Ok(plan)
}

/// Moves what was planned, as far as nobody was there first; those are refused then. Answers how many were moved.
///
/// # Errors
/// When the database does not answer: whether it was done is known when the transaction has ended.
pub async fn carry_out(
    connection: &mut PgConnection,
    action: &Action,
    plan: &mut Plan,
    who: &str,
) -> Result<usize, StoreError> {
    let (moves, said) = (&plan.moves, action.said(who));
    if moves.is_empty() {
        return Ok(0);
    }
    let done = match action {
        Action::Retry => steer::retry(connection, moves, &said).await?,
        Action::Cancel => steer::cancel(connection, moves, &said).await?,
        Action::Release => steer::release(connection, moves, &said).await?,
        Action::Reopen => steer::reopen(connection, moves, &plan.pipeline, &said).await?,
        Action::Restart { .. } => steer::restart(connection, moves, &said).await?,
    };
    let done: HashSet<Uuid> = done.into_iter().collect();
    let missed = moves.iter().filter(|one| !done.contains(&one.id));
    plan.refused.extend(missed.map(|one| (one.id, Refusal::Moved)));
    Ok(done.len())
}

/// Those of the versions that can be had.
async fn pipelines<'a>(
    versions: &Versions,
    wanted: impl Iterator<Item = &'a String>,
) -> Result<HashMap<String, Arc<Pipeline>>, StoreError> {
    let wanted: HashSet<&String> = wanted.collect();
    let mut pipelines = HashMap::with_capacity(wanted.len());
    for version in wanted {
        match versions.get(version).await {
            Ok(pipeline) => {
                pipelines.insert(version.clone(), pipeline);
            }
            Err(versions::Error::Store(error)) => return Err(error),
            Err(error @ versions::Error::Unusable { .. }) => {
                tracing::warn!(%error, "what runs on it cannot be steered");
            }
        }
    }
    Ok(pipelines)
}
