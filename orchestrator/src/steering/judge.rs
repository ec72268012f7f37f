//! What may be done to a receipt: pure rules about what was read of it.

use shared::pipeline::{Pipeline, Stage, To, call_id};
use shared::stage::next::bound_for;
use shared::store::steer::Move;
use shared::store::steer::seen::{Ended, Open};

use super::Action;

/// Why an action is not for a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not here, or not any more.
    #[error("there is no such receipt")]
    Unknown,
    /// An owner or a message has it.
    #[error("it is in work")]
    InWork,
    /// It has ended.
    #[error("it is final")]
    Final,
    /// There is no timer to be made due.
    #[error("it waits for no timer, but for its turn at its destination")]
    Turn,
    /// Likewise.
    #[error("it waits for its original")]
    Original,
    /// The timer is due.
    #[error("it is due already")]
    Due,
    /// Parked, where a timer is needed.
    #[error("it is parked: release it")]
    Parked,
    /// Not parked, where that is needed.
    #[error("it is not parked")]
    NotParked,
    /// Not rejected, where that is needed.
    #[error("it is not rejected")]
    NotRejected,
    /// A call that registers was sent, or may have been.
    #[error("a call that registers was made, and nobody knows what came of it: resolve it first")]
    Unresolved,
    /// It is registered there.
    #[error("it is registered at its destination")]
    Registered,
    /// It could be registered twice.
    #[error("a call that registers was answered with something that does not say that it failed")]
    Doubtful,
    /// Its pipeline has no such stage.
    #[error("its pipeline has no such stage")]
    NoSuchStage,
    /// A stage that it has yet to come to.
    #[error("it has not come as far as that stage")]
    Ahead,
    /// The pipeline was changed too much.
    #[error("the current pipeline has a stage before that one which this receipt never went through")]
    NewStage,
    /// Its pipeline is not stored, or cannot be compiled any more.
    #[error("its pipeline cannot be read any more")]
    NoPipeline,
    /// Between the look and the move.
    #[error("somebody else moved it meanwhile")]
    Moved,
}

impl Refusal {
    /// Its word, where refusals are counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::InWork => "in_work",
            Self::Final => "final",
            Self::Turn => "waits_for_its_turn",
            Self::Original => "waits_for_its_original",
            Self::Due => "due",
            Self::Parked => "parked",
            Self::NotParked => "not_parked",
            Self::NotRejected => "not_rejected",
            Self::Unresolved => "unresolved",
            Self::Registered => "registered",
            Self::Doubtful => "doubtful",
            Self::NoSuchStage => "no_such_stage",
            Self::Ahead => "stage_ahead",
            Self::NewStage => "new_stage",
            Self::NoPipeline => "no_pipeline",
            Self::Moved => "moved",
        }
    }
}

/// An open receipt on its pipeline (`None`: it cannot be had).
pub(super) fn open(action: &Action, seen: &Open, pipeline: Option<&Pipeline>) -> Result<Move, Refusal> {
    let (waits, parked) = (seen.state == "waiting", seen.state == "parked");
    match action {
        Action::Reopen => Err(Refusal::NotRejected),
        Action::Cancel if seen.registered => Err(Refusal::Registered),
        Action::Cancel if seen.unresolved => Err(Refusal::Unresolved),
        Action::Cancel if waits || parked || seen.state == "queued" => Ok(stays(seen, pipeline)),
        Action::Release if parked && pipeline.is_none() => Err(Refusal::NoPipeline),
        Action::Release if parked => Ok(stays(seen, pipeline)),
        Action::Release if waits => Err(Refusal::NotParked),
        Action::Retry if parked => Err(Refusal::Parked),
        Action::Retry if waits => match seen.due {
            Some(false) => Ok(stays(seen, pipeline)),
            Some(true) => Err(Refusal::Due),
            None if seen.waits_for_original => Err(Refusal::Original),
            None => Err(Refusal::Turn),
        },
        Action::Restart { stage } if waits || parked => restart(seen, pipeline.ok_or(Refusal::NoPipeline)?, stage),
        _ => Err(Refusal::InWork),
    }
}

/// It goes on where it stands.
fn stays(seen: &Open, pipeline: Option<&Pipeline>) -> Move {
    let stage = pipeline.and_then(|pipeline| pipeline.stages.get(usize::try_from(seen.position).ok()?));
    Move {
        id: seen.id,
        epoch: seen.epoch,
        position: seen.position,
        external: stage.is_some_and(|stage| stage.destination().is_some()),
        destination: String::new(),
        registers: false,
        superseded: Vec::new(),
    }
}

fn restart(seen: &Open, pipeline: &Pipeline, stage: &str) -> Result<Move, Refusal> {
    let at = position(pipeline, stage).ok_or(Refusal::NoSuchStage)?;
    let stands = usize::try_from(seen.position).unwrap_or_default();
    if at > stands {
        return Err(Refusal::Ahead);
    }
    let again = onwards(pipeline, at);
    let registers = again.iter().any(|stage| stage.registers().is_some());
    match seen {
        Open { registered: true, .. } if registers => return Err(Refusal::Registered),
        Open { unresolved: true, .. } if registers => return Err(Refusal::Unresolved),
        _ => {}
    }
    let superseded = again.iter().take(stands - at + 1);
    Ok(Move {
        registers,
        superseded: superseded.map(|stage| stage.name.clone()).collect(),
        ..to(seen.id, seen.epoch, pipeline, at)
    })
}

/// The call ids by which a receipt may have been registered at the stages from `at` on, were they answered.
pub(super) fn registering(seen: &Open, pipeline: &Pipeline, at: i16) -> Vec<String> {
    let n = u32::try_from(seen.reissues).unwrap_or_default();
    let stages = onwards(pipeline, usize::try_from(at).unwrap_or_default()).iter();
    let requests = stages.filter_map(|stage| Some((stage, stage.registers()?)));
    let key = requests.map(|(stage, request)| {
        let (To::Service(target) | To::Destination(target)) = &request.to;
        let (merchant, external_id) = (&seen.merchant, &seen.external_id);
        call_id(target, &stage.name, &request.name, merchant, external_id, None, n)
    });
    key.collect()
}

/// A receipt that has ended, on the current pipeline; `began`: the one that it began with.
pub(super) fn ended(
    action: &Action,
    seen: &Ended,
    current: &Pipeline,
    began: Option<&Pipeline>,
) -> Result<Move, Refusal> {
    if *action != Action::Reopen {
        return Err(Refusal::Final);
    }
    if seen.state != "rejected" {
        return Err(Refusal::NotRejected);
    }
    if seen.doubtful {
        return Err(Refusal::Doubtful);
    }
    let stage = seen.stage.as_deref().unwrap_or_default();
    let at = position(current, stage).ok_or(Refusal::NoSuchStage)?;
    let began = began.ok_or(Refusal::NoPipeline)?;
    let before = &began.stages[..position(began, stage).unwrap_or(began.stages.len())];
    let went_through = |stage: &Stage| before.iter().any(|known| known.name == stage.name);
    if !current.stages[..at].iter().all(went_through) {
        return Err(Refusal::NewStage);
    }
    Ok(to(seen.id, seen.epoch, current, at))
}

fn to(id: uuid::Uuid, epoch: i32, pipeline: &Pipeline, at: usize) -> Move {
    Move {
        id,
        epoch,
        position: i16::try_from(at).unwrap_or(i16::MAX),
        external: false,
        destination: bound_for(pipeline, at).to_owned(),
        registers: false,
        superseded: Vec::new(),
    }
}

fn position(pipeline: &Pipeline, stage: &str) -> Option<usize> {
    pipeline.stages.iter().position(|known| known.name == stage)
}

fn onwards(pipeline: &Pipeline, at: usize) -> &[Stage] {
    pipeline.stages.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
