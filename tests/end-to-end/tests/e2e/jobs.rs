//! Actions upon many receipts: counted, at a rate, stopped, and gone on with over a death.

use std::time::Duration;

use end_to_end::{Answer, Backlog, Stack, VIEWER, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{at_length, behind, model, quick};

const SOON: Duration = Duration::from_secs(30);

async fn ask(stack: &Stack, method: &str, path: &str, body: Option<Value>) -> Answer {
    let api = &stack.orchestrators[0].api;
    api.request(method, path, body.as_ref()).await.unwrap()
}

async fn shown(stack: &Stack, job: &str) -> Value {
    ask(stack, "GET", &format!("/v1/jobs/{job}"), None).await.body
}

async fn act(stack: &Stack, job: &str, action: &str) -> u16 {
    let why = json!({"reason": "it is time"});
    ask(stack, "POST", &format!("/v1/jobs/{job}/{action}"), Some(why))
        .await
        .status
}

async fn made(stack: &Stack, body: Value) -> String {
    let answer = ask(stack, "POST", "/v1/jobs", Some(body)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    answer.id().unwrap().to_owned()
}

async fn is(stack: &Stack, job: &str, state: &str, limit: Duration) -> Value {
    eventually(limit, &format!("the job is {state}"), async || {
        shown(stack, job).await["state"] == state
    })
    .await;
    shown(stack, job).await
}

fn counted(stack: &Stack, sql: &str) -> u64 {
    stack.database.sql(sql).unwrap().parse().unwrap()
}

/// So many that are to be tried again in an hour, at a destination that takes no calls.
async fn backlog(count: u64) -> Stack {
    let mut stack = Stack::start(&quick()).await.unwrap();
    stack.post_all(&model()).await.unwrap();
    stack.settled(SOON).await;
    let paused = stack.orchestrators[0]
        .api
        .change("fiscal", &json!({"state": "paused"}))
        .await;
    assert_eq!(paused.unwrap().status, 200);
    let backlog = Backlog {
        timers: count,
        ..behind(count)
    };
    backlog.fill(&stack.database).unwrap();
    stack
        .database
        .sql("update work set call_due_at = now() + interval '1 hour'")
        .unwrap();
    stack
}

/// The most receipts that were moved in any second, by the times at which they were.
fn most_in_a_second(stack: &Stack) -> u64 {
    counted(
        stack,
        "select max(n) from (
             select count(*) over (order by call_due_at range between current row and interval '999999 microseconds' following) as n
             from work where call_due_at <= now()
         ) t",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_retried_at_a_rate_over_a_stop_and_a_death() {
    let (count, rate) = if at_length() { (100_000, 2_000) } else { (3_000, 400) };
    let mut stack = backlog(count).await;
    // One is not for it: its turn has come already.
    stack
        .database
        .sql("update work set call_due_at = now() where id = (select id from work order by id desc limit 1)")
        .unwrap();
    let most = count - 1;
    let filter = json!({"destination": "fiscal", "outcome": "retry"});
    let job = json!({"action": "retry", "filter": filter, "reason": "they are back", "rate": rate});
    let job = made(&stack, job).await;
    let view = is(&stack, &job, "counted", SOON).await;
    assert_eq!(
        (&view["matched"], &view["movable"]),
        (&json!(count), &json!(most)),
        "{view}"
    );
    assert_eq!(view["refused"], json!({"due": 1}), "{view}");
    let moved = "select count(*) from work where epoch > 1";
    assert_eq!(counted(&stack, moved), 0, "nothing is moved before it is started");
    assert_eq!(act(&stack, &job, "stop").await, 409);

    assert_eq!(act(&stack, &job, "start").await, 200);
    assert_eq!(act(&stack, &job, "start").await, 409);
    eventually(SOON * 4, "a quarter is moved", async || {
        counted(&stack, moved) > count / 4
    })
    .await;
    assert_eq!(act(&stack, &job, "stop").await, 200);
    let stopped = shown(&stack, &job).await["moved"].as_u64().unwrap();
    assert_eq!(
        counted(&stack, moved),
        stopped,
        "what it says it moved is what was moved"
    );
    sleep(Duration::from_secs(1)).await;
    assert_eq!(counted(&stack, moved), stopped, "it is stopped");

    assert_eq!(act(&stack, &job, "start").await, 200);
    eventually(SOON * 4, "half is moved", async || counted(&stack, moved) > count / 2).await;
    let directory = stack.directory().to_path_buf();
    stack.orchestrators[0].process.kill().unwrap();
    let before = counted(&stack, moved);
    assert!(before < most, "it was killed in the midst of it");
    stack.orchestrators[0].restart(&directory).await.unwrap();
    let view = is(&stack, &job, "done", SOON * 8).await;
    assert_eq!(
        (&view["moved"], &view["refused"]),
        (&json!(most), &json!({"due": 1})),
        "{view}"
    );
    assert_eq!(
        counted(&stack, "select count(*) from work where epoch = 2"),
        most,
        "each was moved once"
    );
    let fastest = most_in_a_second(&stack);
    assert!(
        fastest <= rate && fastest >= rate / 2,
        "{fastest} in a second at a rate of {rate}"
    );
    on_record(&stack, &job, most, stopped).await;
    many_are_cancelled(&stack, count).await;
}

async fn on_record(stack: &Stack, job: &str, most: u64, stopped: u64) {
    let api = stack.orchestrators[0].api.with_token(VIEWER);
    let page = api
        .request("GET", &format!("/v1/audit?target={job}"), None)
        .await
        .unwrap()
        .body;
    let mut entries = page["entries"].as_array().unwrap().clone();
    entries.reverse();
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry["action"].as_str().unwrap(), entry["count"].as_u64().unwrap()))
        .collect();
    let expected = [
        ("job.create", 0),
        ("job.counted", most),
        ("job.start", 0),
        ("job.stop", stopped),
        ("job.start", stopped),
        ("job.done", most),
    ];
    assert_eq!(told, expected);
    assert_eq!(entries[0]["reason"], "they are back");
    assert_eq!(entries[0]["filter"]["destination"], "fiscal");
    assert_eq!(entries[3]["reason"], "it is time");
    assert!(entries.iter().all(|entry| entry["by"] == "the operator"));
}

async fn many_are_cancelled(stack: &Stack, count: u64) {
    let filter = json!({"destination": "fiscal", "state": "waiting"});
    let job = json!({"action": "cancel", "filter": filter, "reason": "it was a trial", "rate": 5_000});
    let job = made(stack, job).await;
    is(stack, &job, "counted", SOON).await;
    assert_eq!(act(stack, &job, "start").await, 200);
    let view = is(stack, &job, "done", SOON * 4).await;
    assert_eq!(view["moved"], json!(count), "{view}");
    assert_eq!(
        counted(stack, "select count(*) from finished where state = 'cancelled'"),
        count
    );
    assert_eq!(counted(stack, "select count(*) from work"), 0);
}
