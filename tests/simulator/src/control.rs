//! The handlers tests steer and judge by: `/ledger`, `/calls`, `/ways`, `/done`, `/faults`, `/settings`, `/tokens`.

use std::collections::BTreeSet;
use std::time::Instant;

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::answer::Answer;
use crate::app::{Simulator, lock};
use crate::faults::Faults;
use crate::ledger::trace_id;
use crate::route::decode;
use crate::settings::Settings;
use crate::summary::Summary;

/// `GET /ledger`
pub(crate) async fn summary(State(simulator): State<Simulator>) -> Answer {
    let (summary, instants) = Summary::of(&lock(&simulator.state.ledger));
    Answer::ok(&summary.with(instants))
}

/// `GET /ledger/{merchant}/{external_id}`; the external id may hold anything, so the path is read as it came.
pub(crate) async fn receipt(State(simulator): State<Simulator>, uri: Uri) -> Answer {
    let parts = uri
        .path()
        .strip_prefix("/ledger/")
        .and_then(|rest| rest.split_once('/'));
    let Some((merchant, external_id)) = parts.and_then(|(merchant, id)| Some((decode(merchant)?, decode(id)?))) else {
        return mistake(
            StatusCode::BAD_REQUEST,
            "/ledger/{merchant}/{external_id}, percent-encoded, is wanted",
        );
    };
    let ledger = lock(&simulator.state.ledger);
    let (calls, registrations) = ledger.receipt(&format!("{merchant}/{external_id}"));
    let traces = calls.iter().filter_map(|call| trace_id(call.traceparent.as_deref()?));
    let traces: BTreeSet<_> = traces.map(|trace| format!("{trace:032x}")).collect();
    let processes: BTreeSet<_> = calls.iter().filter_map(|call| call.user_agent.as_deref()).collect();
    Answer::ok(&json!({
        "merchant": merchant,
        "external_id": external_id,
        "calls": calls,
        "registrations": registrations,
        "trace_ids": traces,
        "processes": processes,
    }))
}

/// What `GET /calls` is asked for.
#[derive(Deserialize)]
pub(crate) struct Since {
    /// Milliseconds since the epoch.
    #[serde(default)]
    since: i64,
}

/// `GET /calls?since=`: the calls of external APIs that arrived since then, in the order of their arrival.
pub(crate) async fn calls(State(simulator): State<Simulator>, Query(Since { since }): Query<Since>) -> Answer {
    let ledger = lock(&simulator.state.ledger);
    let calls: Vec<_> = ledger
        .calls
        .iter()
        .filter(|call| call.at >= since && call.target.api().is_some())
        .collect();
    Answer::ok(&calls)
}

/// `GET /ways`: of every receipt, when it reached what, and how often it was registered.
pub(crate) async fn ways(State(simulator): State<Simulator>) -> Answer {
    // The order of the locks is the one forgetting takes them in.
    let ledger = lock(&simulator.state.ledger);
    let ways = lock(&simulator.state.ways);
    Answer::ok(&ways.all(&ledger))
}

/// `GET /done`: how many were reported as done; one number, so that it can be asked all the time.
pub(crate) async fn done(State(simulator): State<Simulator>) -> Answer {
    Answer::ok(&json!({"done": lock(&simulator.state.ways).done()}))
}

/// `DELETE /ledger`
pub(crate) async fn forget(State(simulator): State<Simulator>) -> StatusCode {
    simulator.state.forget();
    StatusCode::NO_CONTENT
}

/// `GET /faults`
pub(crate) async fn faults(State(simulator): State<Simulator>) -> Answer {
    Answer::ok(&lock(&simulator.state.faults).table(Instant::now()))
}

/// `PUT /faults`
pub(crate) async fn set_faults(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    let now = Instant::now();
    match Faults::parse(&body, now) {
        Ok(table) => {
            let mut faults = lock(&simulator.state.faults);
            *faults = table;
            Answer::ok(&faults.table(now))
        }
        Err((status, text)) => mistake(status, &text),
    }
}

/// `DELETE /faults`
pub(crate) async fn clear_faults(State(simulator): State<Simulator>) -> StatusCode {
    *lock(&simulator.state.faults) = Faults::default();
    StatusCode::NO_CONTENT
}

/// `GET /settings`
pub(crate) async fn settings(State(simulator): State<Simulator>) -> Answer {
    Answer::ok(&*lock(&simulator.state.settings))
}

/// `PUT /settings`
pub(crate) async fn set_settings(State(simulator): State<Simulator>, body: Bytes) -> Answer {
    match serde_json::from_slice::<Settings>(&body) {
        Ok(settings) => match settings.mistake() {
            None => {
                let answer = Answer::ok(&settings);
                *lock(&simulator.state.settings) = settings;
                answer
            }
            Some(text) => mistake(StatusCode::UNPROCESSABLE_ENTITY, text),
        },
        Err(error) if error.is_data() => mistake(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        Err(error) => mistake(StatusCode::BAD_REQUEST, &error.to_string()),
    }
}

/// `GET /tokens`: every token that was given and not revoked, its time over or not.
pub(crate) async fn tokens(State(simulator): State<Simulator>) -> Answer {
    Answer::ok(&lock(&simulator.state.fiscal).tokens())
}

/// `DELETE /tokens`: every token is unknown from now on.
pub(crate) async fn revoke(State(simulator): State<Simulator>) -> StatusCode {
    lock(&simulator.state.fiscal).revoke();
    StatusCode::NO_CONTENT
}

fn mistake(status: StatusCode, text: &str) -> Answer {
    Answer::json(status, &json!({"error": text}))
}
