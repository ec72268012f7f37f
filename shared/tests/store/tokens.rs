//! A destination's token: one fetches it at a time, and nobody replaces what is newer.

use shared::store::tokens::{self, Sealed, Shut, Stored};

use super::*;

const LEASE: Duration = Duration::from_mins(1);

fn sealed(byte: u8) -> Sealed {
    Sealed {
        bytes: vec![byte],
        age: Duration::from_secs(1),
        life: Duration::from_hours(1),
    }
}

async fn read(pool: &PgPool) -> Stored {
    tokens::read(pool, FISCAL).await.expect("the database answers")
}

async fn takes(pool: &PgPool, version: i64, holder: Uuid, lease: Duration) -> bool {
    tokens::take(pool, FISCAL, version, holder, lease)
        .await
        .expect("the database answers")
}

async fn stores(pool: &PgPool, version: i64, holder: Uuid, byte: u8) -> bool {
    tokens::store(pool, FISCAL, (version, version + 1), holder, &sealed(byte))
        .await
        .expect("the database answers")
}

async fn fails(pool: &PgPool, version: i64, holder: Uuid, pause: Duration) -> bool {
    tokens::fail(pool, FISCAL, version, holder, pause, "why")
        .await
        .expect("the database answers")
}

#[sqlx::test(migrations = "../migrations")]
async fn one_of_many_takes_the_lease_and_its_token_is_everybodys(pool: PgPool) {
    assert_eq!(read(&pool).await.version, 0);
    assert!(!stores(&pool, 0, ME, 1).await, "without a lease nothing is stored");
    let takers = (0..8).map(|n| takes(&pool, 0, Uuid::from_u128(n + 1), LEASE));
    let taken = futures_util::future::join_all(takers).await;
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 1);
    assert!(matches!(read(&pool).await.shut, Some(Shut::Leased(left)) if left <= LEASE));
    let holder = Uuid::from_u128(taken.iter().position(|taken| *taken).unwrap() as u128 + 1);
    let other = Uuid::from_u128(9);
    assert!(
        !stores(&pool, 0, other, 2).await && !fails(&pool, 0, other, LEASE).await,
        "nor with somebody else's"
    );

    assert!(stores(&pool, 0, holder, 3).await);
    let stored = read(&pool).await;
    let token = stored.sealed.unwrap();
    assert_eq!(
        (stored.version, token.bytes.as_slice(), stored.shut),
        (1, [3].as_slice(), None)
    );
    assert_eq!(token.life, Duration::from_hours(1));
    assert!(
        token.age >= Duration::from_secs(1) && token.age < LEASE,
        "{:?}",
        token.age
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn who_comes_late_changes_nothing(pool: PgPool) {
    assert!(takes(&pool, 0, ME, Duration::ZERO).await);
    assert!(
        takes(&pool, 0, OTHER, LEASE).await,
        "a lease that has ended is taken over"
    );
    assert!(!stores(&pool, 0, ME, 1).await, "by another that fetches still");
    assert!(!fails(&pool, 0, ME, LEASE).await);
    assert!(stores(&pool, 0, OTHER, 2).await);
    assert!(!stores(&pool, 0, ME, 1).await, "or that has fetched");
    assert!(!takes(&pool, 0, ME, LEASE).await, "nor is what is over renewed");
    assert!(takes(&pool, 1, ME, LEASE).await);
    assert!(!stores(&pool, 0, ME, 1).await, "its own old version is over too");
    let stored = read(&pool).await;
    assert_eq!((stored.version, stored.sealed.unwrap().bytes), (1, vec![2]));
}

#[sqlx::test(migrations = "../migrations")]
async fn after_a_failure_there_is_a_pause_and_whoever_waits_learns_of_it(pool: PgPool) {
    assert!(takes(&pool, 0, ME, LEASE).await && stores(&pool, 0, ME, 1).await);
    assert!(takes(&pool, 1, ME, LEASE).await);
    assert!(fails(&pool, 1, ME, LEASE).await);
    let stored = read(&pool).await;
    assert!(matches!(stored.shut, Some(Shut::Paused(_))), "{stored:?}");
    assert_eq!(
        (stored.version, stored.failures, stored.failed_for.as_deref()),
        (1, 1, Some("why"))
    );
    assert_eq!(stored.sealed.unwrap().bytes, [1], "the old one serves");
    assert!(!takes(&pool, 1, OTHER, LEASE).await, "not yet");
    sqlx::query("update tokens set shut_until = now()")
        .execute(&pool)
        .await
        .unwrap();
    assert!(takes(&pool, 1, OTHER, LEASE).await && stores(&pool, 1, OTHER, 2).await);
    let stored = read(&pool).await;
    assert_eq!((stored.version, stored.failures, stored.failed_for), (2, 1, None));
}
