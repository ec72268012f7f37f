//! Jobs: whose they are, and how far they have come.

use std::time::Duration;

use shared::store::jobs::{self, Batch, Job, New, State};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{ME, OTHER};

const LEASE: Duration = Duration::from_secs(10);

async fn made(pool: &PgPool) -> Uuid {
    let id = Uuid::now_v7();
    let new = New {
        id,
        action: "retry",
        stage: None,
        filter: "{}",
        reason: "because",
        who: "anna",
        rate: 10,
    };
    let mut connection = pool.acquire().await.expect("the database answers");
    jobs::create(&mut connection, new).await.expect("the database answers");
    id
}

async fn shown(pool: &PgPool, id: Uuid) -> Job {
    let read = jobs::read(pool, id).await.expect("the database answers");
    read.expect("it is there")
}

async fn taken(pool: &PgPool, by: Uuid) -> Option<Job> {
    jobs::take(pool, by, LEASE).await.expect("the database answers")
}

/// As if so long had passed since its last batch.
async fn passes(pool: &PgPool, seconds: i32) {
    let sql = "update jobs set held_until = held_until - $1 * interval '1 s', next_at = next_at - $1 * interval '1 s'";
    let passed = sqlx::query(sql).bind(seconds).execute(pool).await;
    passed.expect("the database answers");
}

async fn notes(connection: &mut PgConnection, job: &Job, cursor: Option<&str>) -> bool {
    let batch = Batch {
        cursor: cursor.map(str::to_owned),
        examined: 5,
        matched: 3,
        movable: 2,
        moved: 1,
        gap: Duration::from_secs(1),
        ..Batch::default()
    };
    let noted = jobs::note(connection, job.id, job.fence, &batch, LEASE).await;
    noted.expect("the database answers")
}

#[sqlx::test(migrations = "../migrations")]
async fn a_job_is_one_instances_until_its_lease_ends(pool: PgPool) {
    let id = made(&pool).await;
    let mine = taken(&pool, ME).await.unwrap();
    assert_eq!((mine.id, mine.state, mine.fence), (id, State::Counting, 1));
    assert!(taken(&pool, OTHER).await.is_none());
    passes(&pool, 11).await;
    let others = taken(&pool, OTHER).await.unwrap();
    assert_eq!(others.fence, 2);
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(jobs::lock(&mut connection, id, mine.fence).await.unwrap(), None);
    assert!(
        !notes(&mut connection, &mine, Some("c")).await,
        "it was paused meanwhile"
    );
    assert!(notes(&mut connection, &others, Some("c")).await);
    jobs::give_back(&pool, id, mine.fence).await.unwrap();
    assert!(
        taken(&pool, ME).await.is_none(),
        "what is not its own is given back by nobody"
    );
    jobs::give_back(&pool, id, others.fence).await.unwrap();
    assert_eq!(taken(&pool, ME).await.unwrap().cursor.as_deref(), Some("c"));
}

#[sqlx::test(migrations = "../migrations")]
async fn it_counts_waits_to_be_started_and_begins_anew(pool: PgPool) {
    let id = made(&pool).await;
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(
        jobs::start(&mut connection, id).await.unwrap(),
        None,
        "it is being counted"
    );
    let counts = taken(&pool, ME).await.unwrap();
    assert!(notes(&mut connection, &counts, Some("c")).await && notes(&mut connection, &counts, None).await);
    let counted = shown(&pool, id).await;
    assert_eq!(
        (counted.state, counted.matched, counted.movable),
        (State::Counted, 6, 4)
    );
    assert!(taken(&pool, ME).await.is_none(), "nobody is at it");
    assert!(!jobs::stop(&mut connection, id).await.unwrap());

    assert_eq!(jobs::start(&mut connection, id).await.unwrap(), Some(State::Running));
    let started = shown(&pool, id).await;
    assert_eq!((started.cursor, started.examined, started.matched), (None, 0, 6));
    let runs = taken(&pool, ME).await.unwrap();
    assert!(notes(&mut connection, &runs, Some("d")).await && notes(&mut connection, &runs, None).await);
    let done = shown(&pool, id).await;
    assert_eq!((done.state, done.matched, done.examined), (State::Done, 6, 10));
    assert!(done.started_at.is_some() && done.ended_at.is_some());
    assert_eq!(jobs::start(&mut connection, id).await.unwrap(), None);
}

#[sqlx::test(migrations = "../migrations")]
async fn once_it_is_stopped_nothing_more_is_noted(pool: PgPool) {
    let id = made(&pool).await;
    let mut connection = pool.acquire().await.unwrap();
    let counts = taken(&pool, ME).await.unwrap();
    assert!(notes(&mut connection, &counts, Some("c")).await);
    assert!(jobs::stop(&mut connection, id).await.unwrap());
    assert!(!notes(&mut connection, &counts, Some("d")).await);
    assert!(taken(&pool, ME).await.is_none());
    assert_eq!(
        jobs::start(&mut connection, id).await.unwrap(),
        Some(State::Counting),
        "it goes on counting"
    );
    let again = taken(&pool, ME).await.unwrap();
    assert_eq!((again.cursor.as_deref(), again.matched), (Some("c"), 3));
    assert!(notes(&mut connection, &again, None).await);

    assert_eq!(jobs::start(&mut connection, id).await.unwrap(), Some(State::Running));
    let runs = taken(&pool, ME).await.unwrap();
    assert!(notes(&mut connection, &runs, Some("d")).await);
    assert!(jobs::stop(&mut connection, id).await.unwrap());
    assert_eq!(jobs::start(&mut connection, id).await.unwrap(), Some(State::Running));
    let goes_on = taken(&pool, ME).await.unwrap();
    assert_eq!(
        (goes_on.cursor.as_deref(), goes_on.moved),
        (Some("d"), 3),
        "it goes on where it was"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn no_batch_is_done_before_its_turn_whoever_does_it(pool: PgPool) {
    let id = made(&pool).await;
    let mut connection = pool.acquire().await.unwrap();
    let mine = taken(&pool, ME).await.unwrap();
    assert_eq!(
        jobs::lock(&mut connection, id, mine.fence).await.unwrap(),
        Some(Duration::ZERO)
    );
    assert!(notes(&mut connection, &mine, Some("c")).await);
    jobs::give_back(&pool, id, mine.fence).await.unwrap();
    let others = taken(&pool, OTHER).await.unwrap();
    let wait = jobs::lock(&mut connection, id, others.fence).await.unwrap().unwrap();
    assert!(
        wait > Duration::from_millis(500) && wait <= Duration::from_secs(1),
        "{wait:?}"
    );
    passes(&pool, 1).await;
    assert_eq!(
        jobs::lock(&mut connection, id, others.fence).await.unwrap(),
        Some(Duration::ZERO)
    );
}
