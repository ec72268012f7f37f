//! Why a receipt waits, since when and until when, and what would unblock it.

use serde::Serialize;
use shared::destination::{Destination, State};
use shared::store::read::View;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

/// Why a receipt goes no further at present.
#[derive(Debug, Serialize, ToSchema)]
pub struct Wait {
    kind: Kind,
    /// Since when it has stood so.
    #[serde(with = "time::serde::rfc3339::option")]
    since: Option<OffsetDateTime>,
    /// When it goes on, or is tried; null where no clock ends it.
    #[serde(with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
    /// A sentence.
    why: String,
    /// A sentence: what ends it.
    unblocks: String,
    /// The destination, where that is the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Shut>,
    /// The original that a refund waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<Original>,
}

/// What holds a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An attempt is made at this moment.
    Work,
    /// The pause before its next attempt.
    Timer,
    /// Its place among others that are due: in an orchestrator, in the horizon, or its limit key's.
    Turn,
    /// It was handed off, and no dispatcher has taken it yet.
    Queue,
    /// Its destination is closed, paused or drained.
    Destination,
    /// A refund: its original has not ended.
    Original,
    /// A person.
    Person,
}

/// A destination that takes nothing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Shut {
    name: String,
    /// `closed`, `paused`, `draining` or, where no process is configured for it, null.
    #[schema(value_type = Option<String>)]
    state: Option<State>,
    /// Since when it has been closed.
    #[serde(with = "time::serde::rfc3339::option")]
    closed_since: Option<OffsetDateTime>,
    /// When the next canary may be sent.
    #[serde(with = "time::serde::rfc3339::option")]
    closed_until: Option<OffsetDateTime>,
    /// A sentence.
    pub reason: String,
}

/// A refund's original.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Original {
    /// Its id.
    pub id: Uuid,
    /// The caller's id of it.
    pub external_id: String,
    /// Its state.
    pub state: String,
}

/// What is known of the things that may hold a receipt.
#[derive(Debug, Default)]
pub struct Causes {
    /// Where its stage calls, if that is a destination.
    pub destination: Option<String>,
    /// That takes nothing.
    pub shut: Option<Shut>,
    /// When its limit key has its turn, if that is still to come.
    pub turn: Option<OffsetDateTime>,
    /// Its original, if it waits for one.
    pub original: Option<Original>,
}

impl Shut {
    /// A destination that is not open.
    pub fn of(known: &Destination) -> Option<Self> {
        let closing = known.closing.as_ref();
        Some(Self {
            name: known.name.clone(),
            state: Some(known.state()),
            closed_since: closing.map(|closing| closing.since),
            closed_until: closing.map(|closing| closing.until),
            reason: known.reason()?,
        })
    }

    /// One that the configuration does not have.
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: None,
            closed_since: None,
            closed_until: None,
            reason: format!("{name} is not in the configuration"),
        }
    }

    /// Whether it holds this receipt: what was sent goes on while the rest is drained.
    fn holds(&self, view: &View) -> bool {
        !(self.state == Some(State::Draining) && (view.unresolved || view.registered))
    }

    fn unblocks(&self) -> String {
        match (self.state, self.closed_until) {
            (None, _) => format!("{} in the configuration", self.name),
            (Some(State::Closed), Some(until)) => {
                format!(
                    "a canary that {} answers, from {} on; or an operator who opens it",
                    self.name,
                    text(until)
                )
            }
            _ => format!("an operator who opens {}", self.name),
        }
    }
}

/// Why it waits at `now`; `None` once it is final.
pub fn wait(view: &View, causes: Causes, now: OffsetDateTime) -> Option<Wait> {
    let named = causes.destination.clone().unwrap_or_default();
    let due = view.due_at.filter(|due| *due > now);
    let shut = causes.shut.filter(|shut| shut.holds(view));
    let (kind, until, why, unblocks) = match (view.state.as_str(), &shut) {
        ("running", _) => (
            Kind::Work,
            None,
            "an orchestrator has it".to_owned(),
            "the end of the attempt; should its process die, the healer".to_owned(),
        ),
        ("dispatching", _) => (
            Kind::Work,
            None,
            format!("a dispatcher calls {named} for it"),
            "the answer; should its process die, the healer".to_owned(),
        ),
        ("parked", _) => (Kind::Person, None, "it was parked".to_owned(), person(view)),
        ("waiting", _) if view.waits_for.is_some() => {
            let original = causes.original.as_ref().map_or("it", |original| &original.external_id);
            let unblocks = format!("the end of {original}: registered, it goes on; otherwise it parks");
            (Kind::Original, None, "its original has not ended".to_owned(), unblocks)
        }
        ("waiting" | "queued", Some(shut)) => (
            Kind::Destination,
            shut.closed_until,
            shut.reason.clone(),
            shut.unblocks(),
        ),
        ("queued", None) => (
            Kind::Queue,
            None,
            format!("handed off to {named}: a dispatcher takes it when the gate has room"),
            format!("a place within the limits and the concurrency of {named}"),
        ),
        ("waiting", None) => match (due, causes.turn) {
            (Some(due), _) => (
                Kind::Timer,
                Some(due),
                "its last attempt came to no end".to_owned(),
                format!("its next attempt, at {}", text(due)),
            ),
            (None, Some(turn)) => (
                Kind::Turn,
                Some(turn),
                "others of its limit key go before it".to_owned(),
                format!("its limit key's next turn, at {}", text(turn)),
            ),
            (None, None) if named.is_empty() => (
                Kind::Turn,
                None,
                "due now".to_owned(),
                "an orchestrator with room".to_owned(),
            ),
            (None, None) => (
                Kind::Turn,
                None,
                format!("due now for {named}"),
                format!("room for what is handed off to {named}"),
            ),
        },
        _ => return None,
    };
    Some(Wait {
        kind,
        since: view.moved_at,
        until,
        why: match &view.reason {
            Some(reason) if kind == Kind::Destination => format!("{reason}; {why}"),
            Some(reason) if kind != Kind::Work => reason.clone(),
            _ => why,
        },
        unblocks,
        destination: shut.filter(|_| kind == Kind::Destination),
        original: causes.original.filter(|_| kind == Kind::Original),
    })
}

fn person(view: &View) -> String {
    let ways = match (view.unresolved, view.registered) {
        (true, _) => "resolves its call, or releases it",
        (false, true) => "releases it: it is registered, and not cancelled any more",
        (false, false) => "releases or cancels it",
    };
    format!("a person who {ways}")
}

fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
