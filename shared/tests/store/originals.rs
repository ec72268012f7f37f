//! A refund waits for its original, and is woken by its end.

use std::time::Duration;

use shared::store::accept::{AcceptBatch, Start};
use shared::store::claim;
use shared::store::originals::{self, Original};
use shared::store::step::To;
use sqlx::PgPool;
use uuid::Uuid;

use super::{ME, accept, committed, given, held, moves, state, steered, step};

/// A refund that waits for `original`.
async fn refund(pool: &PgPool, original: Uuid) -> Uuid {
    let id = accept(pool, Start::Owned(ME)).await;
    assert!(moves(pool, step(held(id, 1), To::WaitOriginal(original))).await);
    assert_eq!(state(pool, id).await, "waiting");
    id
}

async fn is_first_call(pool: &PgPool, id: Uuid) -> bool {
    sqlx::query_scalar("select waits_for is null and first_call_key is not null from work where id = $1")
        .bind(id)
        .fetch_one(pool)
        .await
        .expect("the database answers")
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_known_of_an_original_is_told(pool: PgPool) {
    let find = async |external_id: &str| originals::find(&pool, Uuid::nil(), "m-1", external_id).await.unwrap();
    assert_eq!(find("sale").await, Original::Unknown);
    let sale = given("sale", Start::Owned(ME));
    let id = sale.id;
    committed::<AcceptBatch>(&pool, &[sale], false).await;
    assert_eq!(find("sale").await, Original::Open(id));
    assert!(moves(&pool, step(held(id, 1), To::Registered)).await);
    assert_eq!(find("sale").await, Original::Ended("registered".to_owned()));
    assert_eq!(
        originals::find(&pool, Uuid::nil(), "m-2", "sale").await.unwrap(),
        Original::Unknown,
        "another merchant's"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn the_end_of_an_original_wakes_its_refunds_and_no_others(pool: PgPool) {
    let (sale, other) = (
        accept(&pool, Start::Owned(ME)).await,
        accept(&pool, Start::Owned(ME)).await,
    );
    let refunds = [refund(&pool, sale).await, refund(&pool, sale).await];
    let others = refund(&pool, other).await;
    assert!(moves(&pool, step(held(sale, 1), To::WaitCall(Duration::ZERO))).await);
    assert!(!is_first_call(&pool, refunds[0]).await, "it has not ended");
    let hold = {
        let claimed = claim::canary(&pool, super::FISCAL, ME, false).await.unwrap();
        assert_eq!(claimed, Some(sale), "nothing else is to be called");
        held(sale, 2)
    };
    let mut registered = step(hold, To::Registered);
    registered.from = 1;
    assert!(moves(&pool, registered).await);
    for id in refunds {
        assert!(is_first_call(&pool, id).await);
    }
    assert!(!is_first_call(&pool, others).await);

    assert!(moves(&pool, step(held(other, 1), To::Rejected)).await);
    assert_eq!(state(&pool, others).await, "parked");
    let cancelled = accept(&pool, Start::Waiting).await;
    let last = refund(&pool, cancelled).await;
    assert!(steered!(pool, cancel, cancelled));
    assert_eq!(state(&pool, last).await, "parked");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_refund_that_came_to_wait_too_late_is_woken_all_the_same(pool: PgPool) {
    let open = accept(&pool, Start::Owned(ME)).await;
    let (sale, failed) = (
        accept(&pool, Start::Owned(ME)).await,
        accept(&pool, Start::Owned(ME)).await,
    );
    assert!(moves(&pool, step(held(sale, 1), To::Registered)).await);
    assert!(moves(&pool, step(held(failed, 1), To::Rejected)).await);
    let (woken, parked, waits) = (
        refund(&pool, sale).await,
        refund(&pool, failed).await,
        refund(&pool, open).await,
    );
    assert_eq!(originals::wake(&pool, open).await.unwrap(), 0);
    assert_eq!(originals::wake(&pool, sale).await.unwrap(), 1);
    assert!(is_first_call(&pool, woken).await);
    assert_eq!(originals::missed(&pool).await.unwrap(), [failed]);
    assert_eq!(originals::wake(&pool, failed).await.unwrap(), 1);
    assert_eq!(state(&pool, parked).await, "parked");
    assert!(!is_first_call(&pool, waits).await);
}

#[sqlx::test(migrations = "../migrations")]
async fn refunds_of_each_other_are_found_out(pool: PgPool) {
    let (sale, first) = (given("sale", Start::Owned(ME)), given("first", Start::Owned(ME)));
    let (sale_id, first_id) = (sale.id, first.id);
    committed::<AcceptBatch>(&pool, &[first, sale], false).await;
    let second = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(first_id, 1), To::WaitOriginal(second))).await);
    let find = async |id, external_id: &str| originals::find(&pool, id, "m-1", external_id).await.unwrap();
    assert_eq!(find(second, "first").await, Original::Circular);
    assert_eq!(find(second, "sale").await, Original::Open(sale_id));
}
