//! What each state waits for.

use time::macros::datetime;

use super::super::reason::tests::view;
use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-25 12:00 UTC);
const LATER: OffsetDateTime = datetime!(2026-11-25 13:00 UTC);

fn shut(state: State) -> Shut {
    Shut {
        name: "fiscal".to_owned(),
        state: Some(state),
        closed_since: Some(NOW),
        closed_until: (state == State::Closed).then_some(LATER),
        reason: "fiscal is shut".to_owned(),
    }
}

fn fiscal(shut: Option<Shut>, turn: Option<OffsetDateTime>) -> Causes {
    Causes {
        destination: Some("fiscal".to_owned()),
        shut,
        turn,
        original: None,
    }
}

#[test]
fn every_state_that_waits_says_for_what_and_what_ends_it() {
    for (state, due_at, causes, kind, until, unblocks) in [
        (
            "running",
            None,
            Causes::default(),
            Kind::Work,
            None,
            "the end of the attempt",
        ),
        (
            "dispatching",
            None,
            fiscal(Some(shut(State::Closed)), None),
            Kind::Work,
            None,
            "the answer",
        ),
        (
            "parked",
            None,
            Causes::default(),
            Kind::Person,
            None,
            "releases or cancels",
        ),
        (
            "queued",
            None,
            fiscal(None, None),
            Kind::Queue,
            None,
            "concurrency of fiscal",
        ),
        (
            "queued",
            None,
            fiscal(Some(shut(State::Paused)), None),
            Kind::Destination,
            None,
            "operator who opens fiscal",
        ),
        (
            "waiting",
            Some(LATER),
            fiscal(Some(shut(State::Closed)), None),
            Kind::Destination,
            Some(LATER),
            "a canary",
        ),
        (
            "waiting",
            Some(LATER),
            Causes::default(),
            Kind::Timer,
            Some(LATER),
            "2026-11-25T13:00:00Z",
        ),
        (
            "waiting",
            Some(NOW),
            Causes::default(),
            Kind::Turn,
            None,
            "an orchestrator",
        ),
        (
            "waiting",
            None,
            fiscal(None, None),
            Kind::Turn,
            None,
            "handed off to fiscal",
        ),
        (
            "waiting",
            None,
            fiscal(None, Some(LATER)),
            Kind::Turn,
            Some(LATER),
            "limit key",
        ),
    ] {
        let wait = wait(&view(state, None, due_at), causes, NOW).unwrap();
        assert_eq!((wait.kind, wait.until), (kind, until), "{state}");
        assert!(wait.unblocks.contains(unblocks), "{state}: {}", wait.unblocks);
        assert_eq!(wait.destination.is_some(), kind == Kind::Destination);
    }
    for state in ["registered", "rejected", "cancelled"] {
        assert!(wait(&view(state, Some("why"), None), Causes::default(), NOW).is_none());
    }
}

#[test]
fn a_refund_waits_for_its_original_whatever_its_destination_does() {
    let refund = View {
        waits_for: Some(Uuid::nil()),
        ..view("waiting", Some("why"), None)
    };
    let original = Original {
        id: Uuid::nil(),
        external_id: "e-1".to_owned(),
        state: "parked".to_owned(),
    };
    let causes = Causes {
        original: Some(original),
        ..fiscal(Some(shut(State::Closed)), None)
    };
    let wait = wait(&refund, causes, NOW).unwrap();
    assert_eq!((wait.kind, wait.why.as_str()), (Kind::Original, "why"));
    assert!(wait.unblocks.contains("e-1") && wait.original.is_some() && wait.destination.is_none());
}

#[test]
fn what_was_sent_goes_on_while_the_rest_is_drained() {
    let sent = View {
        unresolved: true,
        ..view("waiting", None, Some(LATER))
    };
    let kind = |view: &View| wait(view, fiscal(Some(shut(State::Draining)), None), NOW).unwrap().kind;
    assert_eq!(kind(&sent), Kind::Timer);
    assert_eq!(kind(&view("waiting", None, Some(LATER))), Kind::Destination);
    let parked = View {
        unresolved: true,
        ..view("parked", None, None)
    };
    assert!(
        wait(&parked, Causes::default(), NOW)
            .unwrap()
            .unblocks
            .contains("resolves")
    );
}
