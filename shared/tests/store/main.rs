//! The store on a real PostgreSQL: every row of the transition table, allowed and refused, and group commit's hygiene.
//! `DATABASE_URL` names the server; each test has a database of its own.

mod group;
mod transitions;

use shared::store::accept::{Accept, AcceptBatch, Accepted, Start};
use shared::store::group::Batch;
use shared::store::load::{self, Work};
use shared::store::step::{Counters, Standing, Step, StepBatch, To};
use shared::store::{Hold, read};
use sqlx::PgPool;
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
    assert_eq!(
        AcceptBatch(pool.clone())
            .commit(&[item], false)
            .await
            .expect("the database answers"),
        [Accepted::New]
    );
    id
}

async fn work(pool: &PgPool, id: Uuid) -> Option<Work> {
    load::works(pool, &[id]).await.expect("the database answers").pop()
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
        to,
        position: 1,
        destination: FISCAL.to_owned(),
        counters: Counters::default(),
        standing: Standing::default(),
        reason: Some("because".to_owned()),
        stage: "validate".to_owned(),
        result: None,
        calls: Vec::new(),
    }
}

async fn moves(pool: &PgPool, step: Step) -> bool {
    StepBatch(pool.clone())
        .commit(&[step], false)
        .await
        .expect("the database answers")[0]
}
