//! Group commit's hygiene.

use shared::store::StoreError;
use shared::store::accept::{AcceptBatch, Accepted, Start};
use shared::store::group::Group;
use shared::store::step::{StepBatch, Stepped, To};
use sqlx::PgPool;

use super::{ME, accept, given, state, step};
use shared::store::Hold;

#[sqlx::test(migrations = "../migrations")]
async fn one_bad_row_harms_no_neighbour(pool: PgPool) {
    let group = Group::<AcceptBatch>::start(pool.clone());
    let posts: Vec<_> = (0..40)
        .map(|n| {
            let mut item = given(&format!("r{n}"), Start::Waiting);
            if n == 17 {
                item.content = "{not json".to_owned();
            }
            let group = group.clone();
            tokio::spawn(async move { group.commit(item).await })
        })
        .collect();
    for (n, post) in posts.into_iter().enumerate() {
        match post.await.unwrap() {
            Ok(accepted) => assert!(n != 17 && accepted == Accepted::New),
            Err(error) => assert!(n == 17 && matches!(error, StoreError::Refused { .. }), "{n}: {error}"),
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn two_steps_of_one_receipt_are_two_batches(pool: PgPool) {
    let group = Group::<StepBatch>::start(pool.clone());
    let id = accept(&pool, Start::Owned(ME)).await;
    let hold = Hold {
        id,
        epoch: 1,
        owner: ME,
    };
    let (first, second) = tokio::join!(group.commit(step(hold, To::Park)), group.commit(step(hold, To::Park)));
    assert_eq!(first.unwrap(), Stepped::Moved);
    assert_eq!(second.unwrap(), Stepped::Stale, "the second finds it moved");
}

#[sqlx::test(migrations = "../migrations")]
async fn two_writers_of_the_same_rows_never_lock_each_other_for_good(pool: PgPool) {
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(accept(&pool, Start::Owned(ME)).await);
    }
    let writers = [
        Group::<StepBatch>::start(pool.clone()),
        Group::<StepBatch>::start(pool.clone()),
    ];
    let mut steps = Vec::new();
    for (n, id) in ids.iter().chain(ids.iter().rev()).enumerate() {
        let (group, hold) = (
            writers[n / 50].clone(),
            Hold {
                id: *id,
                epoch: 1,
                owner: ME,
            },
        );
        steps.push(tokio::spawn(async move {
            group.commit(step(hold, To::Registered)).await.unwrap()
        }));
    }
    let mut moved = 0;
    for done in steps {
        moved += usize::from(done.await.unwrap() == Stepped::Moved);
    }
    assert_eq!(moved, 50, "each once");
    assert_eq!(state(&pool, ids[0]).await, "registered");
}
