use std::collections::BTreeMap;

use shared::pipeline::Source;
use uuid::Uuid;

use super::*;

const STAGES: &str = r#"stages = ["validate", "document", "register", "confirm", "fetch"]"#;
const VALIDATE: &str = r#"
    [validate.send]
    service = "s"
    post = "/"
"#;
const REQUESTS: &str = r#"
    [document.send]
    service = "s"
    put = "/"
    [register.send]
    destination = "fiscal"
    post = "/"
    [confirm.report]
    destination = "fiscal"
    get = "/"
    on = [{ status = 200, then = "success", registered = true }]
    [fetch.document]
    destination = "fiscal"
    get = "/"
"#;

fn pipeline(stages: &str, more: &str) -> Pipeline {
    let validate = if stages.contains("validate") { VALIDATE } else { "" };
    let source = Source {
        toml: format!("name = \"p\"\n{stages}\n{validate}{REQUESTS}{more}"),
        files: BTreeMap::new(),
        unread: BTreeMap::new(),
    };
    Pipeline::compile(source).unwrap()
}

fn at(state: &str, position: i16) -> Open {
    Open {
        id: Uuid::nil(),
        epoch: 7,
        state: state.to_owned(),
        pipeline: "v".to_owned(),
        position,
        reissues: 0,
        unresolved: false,
        registered: false,
        due: (state == "waiting").then_some(false),
        waits_for_original: false,
        merchant: "m".to_owned(),
        external_id: "e".to_owned(),
    }
}

fn from(stage: &str) -> Action {
    Action::Restart {
        stage: stage.to_owned(),
    }
}

#[test]
fn each_action_is_for_its_states_and_no_others() {
    use Action::{Cancel, Release, Reopen, Retry};
    let pipeline = pipeline(STAGES, "");
    let states = ["waiting", "parked", "queued", "running", "dispatching"];
    let (work, none) = (Some(Refusal::InWork), None);
    for (action, expected) in [
        (Retry, [none, Some(Refusal::Parked), work, work, work]),
        (Cancel, [none, none, none, work, work]),
        (Release, [Some(Refusal::NotParked), none, work, work, work]),
        (Reopen, [Some(Refusal::NotRejected); 5]),
        (from("validate"), [none, none, work, work, work]),
    ] {
        let judged = states.map(|state| open(&action, &at(state, 2), Some(&pipeline)).err());
        assert_eq!(judged, expected, "{action:?} of {states:?}");
    }
    for (due, original, refusal) in [
        (Some(true), false, Refusal::Due),
        (None, true, Refusal::Original),
        (None, false, Refusal::Turn),
    ] {
        let seen = Open {
            due,
            waits_for_original: original,
            ..at("waiting", 2)
        };
        assert_eq!(open(&Retry, &seen, Some(&pipeline)).err(), Some(refusal));
    }
}

#[test]
fn nothing_is_cancelled_that_may_be_registered() {
    let pipeline = pipeline(STAGES, "");
    let (mut unresolved, mut registered) = (at("parked", 2), at("parked", 4));
    unresolved.unresolved = true;
    registered.registered = true;
    let judged = |seen| open(&Action::Cancel, seen, Some(&pipeline)).err();
    assert_eq!(judged(&unresolved), Some(Refusal::Unresolved));
    assert_eq!(judged(&registered), Some(Refusal::Registered));
}

#[test]
fn a_restart_is_refused_where_it_could_register_twice() {
    let pipeline = pipeline(STAGES, "");
    let judged = |stage: &str, seen: &Open| open(&from(stage), seen, Some(&pipeline));
    let mut seen = at("parked", 3);
    let moved = judged("document", &seen).unwrap();
    assert!(moved.registers);
    assert_eq!(
        (moved.position, moved.epoch, moved.destination.as_str()),
        (1, 7, "fiscal")
    );
    assert_eq!(moved.superseded, ["document", "register", "confirm"]);
    assert_eq!(judged("fetch", &seen).err(), Some(Refusal::Ahead));
    assert_eq!(judged("nowhere", &seen).err(), Some(Refusal::NoSuchStage));
    assert_eq!(open(&from("document"), &seen, None).err(), Some(Refusal::NoPipeline));

    seen.unresolved = true;
    for stage in ["validate", "document", "register"] {
        assert_eq!(judged(stage, &seen).err(), Some(Refusal::Unresolved), "{stage}");
    }
    assert!(
        !judged("confirm", &seen).unwrap().registers,
        "nothing registers from there on"
    );
    seen = at("waiting", 4);
    seen.registered = true;
    assert_eq!(judged("register", &seen).err(), Some(Refusal::Registered));
    assert_eq!(judged("confirm", &seen).unwrap().superseded, ["confirm", "fetch"]);
}

#[test]
fn the_calls_that_may_have_registered_are_those_of_the_number_in_use() {
    let pipeline = pipeline(STAGES, "");
    let mut seen = at("parked", 2);
    seen.reissues = 3;
    let key = call_id("fiscal", "register", "send", "m", "e", None, 3);
    assert_eq!(registering(&seen, &pipeline, 0), [key]);
    assert!(registering(&seen, &pipeline, 3).is_empty());
}

fn rejected(stage: &str) -> Ended {
    Ended {
        id: Uuid::nil(),
        epoch: 7,
        state: "rejected".to_owned(),
        stage: Some(stage.to_owned()),
        pipeline: "v".to_owned(),
        doubtful: false,
    }
}

#[test]
fn what_was_rejected_goes_on_with_its_stage_on_the_current_pipeline() {
    let began = pipeline(STAGES, "");
    let reopen = |seen: &Ended, current: &Pipeline| ended(&Action::Reopen, seen, current, Some(&began));
    let moved = reopen(&rejected("register"), &began).unwrap();
    assert_eq!((moved.position, moved.destination.as_str()), (2, "fiscal"));

    let shorter = pipeline(r#"stages = ["document", "register", "confirm", "fetch"]"#, "");
    assert_eq!(reopen(&rejected("register"), &shorter).unwrap().position, 1);
    assert_eq!(
        reopen(&rejected("validate"), &shorter).err(),
        Some(Refusal::NoSuchStage)
    );
    let longer = pipeline(
        r#"stages = ["validate", "stamp", "document", "register", "confirm", "fetch"]"#,
        "[stamp.send]\nservice = \"s\"\npost = \"/\"",
    );
    assert_eq!(reopen(&rejected("validate"), &longer).unwrap().position, 0);
    assert_eq!(reopen(&rejected("register"), &longer).err(), Some(Refusal::NewStage));
}

#[test]
fn nothing_else_that_has_ended_is_opened_again() {
    let pipeline = pipeline(STAGES, "");
    let judged = |action: Action, seen: &Ended| ended(&action, seen, &pipeline, Some(&pipeline)).err();
    for state in ["registered", "cancelled"] {
        let seen = Ended {
            state: state.to_owned(),
            ..rejected("register")
        };
        assert_eq!(judged(Action::Reopen, &seen), Some(Refusal::NotRejected));
    }
    let doubtful = Ended {
        doubtful: true,
        ..rejected("register")
    };
    assert_eq!(judged(Action::Reopen, &doubtful), Some(Refusal::Doubtful));
    for action in [Action::Retry, Action::Cancel, Action::Release, from("validate")] {
        assert_eq!(judged(action, &rejected("register")), Some(Refusal::Final));
    }
}
