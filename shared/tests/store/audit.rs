//! The record of what operators did.

use serde_json::json;
use shared::store::audit::{self, By, Deed, Sought};
use sqlx::PgPool;

fn by(who: &str) -> By {
    By {
        who: who.to_owned(),
        role: "operator",
        reason: Some("because".to_owned()),
        trace_id: None,
    }
}

fn deed(target: &str) -> Deed<'_> {
    Deed {
        action: "retry",
        target,
        filter: None,
        count: 1,
        detail: json!({}),
    }
}

async fn record(pool: &PgPool, who: &str, target: &str) {
    let mut connection = pool.acquire().await.expect("the database answers");
    let recorded = audit::record(&mut connection, &by(who), deed(target)).await;
    recorded.expect("the database answers");
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_on_record_is_changed(pool: PgPool) {
    record(&pool, "anna", "r-1").await;
    for sql in [
        "update audit set reason = 'another'",
        "update audit set reason = 'another' where id = 0",
        "delete from audit",
        "truncate audit",
    ] {
        let refused = sqlx::query(sql).execute(&pool).await.unwrap_err();
        assert!(refused.to_string().contains("append-only"), "{sql}: {refused}");
    }
    let mut long = by("anna");
    long.reason = Some("x".repeat(501));
    let mut connection = pool.acquire().await.unwrap();
    assert!(audit::record(&mut connection, &long, deed("r-1")).await.is_err());
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_not_done_is_not_on_record(pool: PgPool) {
    let mut transaction = pool.begin().await.unwrap();
    audit::record(&mut transaction, &by("anna"), deed("r-1")).await.unwrap();
    transaction.rollback().await.unwrap();
    let sought = Sought {
        limit: 10,
        ..Sought::default()
    };
    assert!(audit::read(&pool, sought).await.unwrap().is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn pages_are_read_by_target_and_by_who(pool: PgPool) {
    for (who, target) in [("anna", "r-1"), ("boris", "r-1"), ("anna", "r-2"), ("anna", "r-1")] {
        record(&pool, who, target).await;
    }
    let ids = async |target, who, before| {
        let sought = Sought {
            target,
            who,
            before,
            limit: 2,
        };
        let found = audit::read(&pool, sought).await.unwrap();
        found.into_iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, None, None).await, [4, 3]);
    assert_eq!(ids(None, None, Some(3)).await, [2, 1]);
    assert_eq!(ids(Some("r-1"), None, None).await, [4, 2]);
    assert_eq!(ids(Some("r-1"), None, Some(2)).await, [1]);
    assert_eq!(ids(None, Some("anna"), None).await, [4, 3]);
    assert_eq!(ids(Some("r-1"), Some("boris"), None).await, [2]);
    assert!(ids(Some("r-3"), None, None).await.is_empty());
}
