//! The store on a real PostgreSQL: every row of the transition table, allowed and refused, and group commit's hygiene.
//! `DATABASE_URL` names the server; each test has a database of its own.

mod audit;
mod deadlines;
mod destinations;
mod group;
mod healing;
mod jobs;
mod limit_keys;
mod originals;
mod reading;
mod records;
mod search;
mod steer;
mod tallies;
mod tokens;
mod transitions;
mod unknown;
mod waits;
mod walks;

use std::time::Duration;

use shared::store::accept::{Accept, AcceptBatch, Accepted, Start};
use shared::store::claim::{self, Dispatch, DispatchBatch};
use shared::store::group::Batch;
use shared::store::load::{self, Work};
use shared::store::record::Send;
use shared::store::steer::Move;
use shared::store::step::{Call, Counters, Standing, Step, StepBatch, Stepped, To};
use shared::store::{Hold, read, relay};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

const FISCAL: &str = "fiscal";

fn given(external_id: &str, start: Start) -> Accept {
    Accept {
        id: Uuid::now_v7(),
        merchant: "m-1".to_owned(),
        external_id: external_id.to_owned(),
        content_hash: [7; 32],
        content: r#"{"total": 1}"#.to_owned(),
        pipeline: "v1".to_owned(),
        destination: FISCAL.to_owned(),
        traceparent: "00-11111111111111111111111111111111-2222222222222222-01".to_owned(),
        tracestate: None,
        deadline: None,
        start,
    }
}

async fn accept(pool: &PgPool, start: Start) -> Uuid {
    let item = given(&Uuid::now_v7().to_string(), start);
    let id = item.id;
    assert_eq!(committed::<AcceptBatch>(pool, &[item], false).await, [Accepted::New]);
    id
}

async fn work(pool: &PgPool, id: Uuid) -> Option<Work> {
    let mut connection = pool.acquire().await.expect("the database answers");
    load::works(&mut connection, &[id])
        .await
        .expect("the database answers")
        .pop()
}

async fn state(pool: &PgPool, id: Uuid) -> String {
    read::state(pool, id)
        .await
        .expect("the database answers")
        .expect("the database answers")
}

fn step(hold: Hold, to: To) -> Step {
    Step {
        hold,
        from: 0,
        to,
        position: 1,
        destination: FISCAL.to_owned(),
        limit_key: None,
        counters: Counters::default(),
        standing: Standing::default(),
        reason: Some("because".to_owned()),
        stage: "validate".to_owned(),
        calls: Vec::new(),
    }
}

async fn committed<B: Batch>(pool: &PgPool, items: &[B::Item], again: bool) -> Vec<B::Reply> {
    let mut connection = pool.acquire().await.expect("the database answers");
    let committed = B::commit(&mut connection, items, again).await;
    committed.expect("the database answers")
}

async fn moves(pool: &PgPool, step: Step) -> bool {
    committed::<StepBatch>(pool, &[step], false).await[0] != Stepped::Stale
}

const ME: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

fn held(id: Uuid, epoch: i32) -> Hold {
    Hold { id, epoch, owner: ME }
}

fn send() -> Send {
    Send {
        call_id: "c1".into(),
        method: "POST".into(),
        path: "/v4".into(),
        headers: "[]".into(),
        body: Some("{}".into()),
    }
}

fn bounds(max_queued: i64, limit: i64) -> relay::Bounds<'static> {
    relay::Bounds {
        max_queued,
        limit,
        only_sent: false,
        fresh_since: None,
        keys: None,
    }
}

/// What is claimed of the internal work that is due, from the front.
async fn claimed(pool: &PgPool, owner: Uuid, limit: i64) -> Vec<Uuid> {
    let claimed = claim::internal(pool, owner, limit, &mut claim::Walk::default()).await;
    claimed.expect("the database answers")
}

async fn queued(pool: &PgPool) -> relay::Put {
    accept(pool, Start::FirstCall).await;
    relay::queue(pool, FISCAL, bounds(100, 100), &mut relay::Walk::default())
        .await
        .expect("the database answers")
        .pop()
        .expect("the database answers")
}

async fn claims(pool: &PgPool, id: Uuid, epoch: i32, send: Option<Send>) -> Option<Hold> {
    let dispatch = Dispatch {
        id,
        epoch,
        owner: ME,
        send,
    };
    committed::<DispatchBatch>(pool, &[dispatch], false).await[0]
}

fn call(outcome: &'static str, value: Option<&str>) -> Call {
    Call {
        id: Uuid::now_v7(),
        stage: "register".into(),
        request: "send".into(),
        attempt: 1,
        call_id: "c1".into(),
        started_at: OffsetDateTime::now_utc(),
        duration: Duration::from_millis(3),
        outcome,
        status: Some(200),
        error: None,
        retry_after_s: None,
        registers: true,
        registered: false,
        value: value.map(str::to_owned),
        result: None,
    }
}

/// A move of a receipt as it stands; its next stage is the destination's first, and nothing is to be registered anew.
async fn seen(pool: &PgPool, id: Uuid) -> Move {
    let epoch =
        sqlx::query_scalar("select epoch from work where id = $1 union all select epoch from finished where id = $1")
            .bind(id)
            .fetch_one(pool)
            .await
            .expect("it is there");
    Move {
        id,
        epoch,
        position: 0,
        external: true,
        destination: FISCAL.to_owned(),
        registers: false,
        superseded: Vec::new(),
    }
}

/// Whether an operator's action moved a receipt, as it stood.
macro_rules! steered {
    ($pool:ident, $action:ident, $id:expr) => {{
        let seen = super::seen(&$pool, $id).await;
        let mut connection = $pool.acquire().await.expect("the database answers");
        let moved = shared::store::steer::$action(&mut connection, &[seen], "by hand").await;
        moved.expect("the database answers") == [$id]
    }};
}
use steered;
