//! Searching: every way of it finds what it should, all of it and once, along an index of its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use shared::pipeline::{Pipeline, Source};
use shared::stage::Versions;
use shared::store::search::{self, Bounds, Cursor, Filter, Order, Window};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};

use super::*;

/// As `store::connect` has it, and one connection: what it prepared can be explained.
async fn one_connection(connect: PgConnectOptions) -> PgPool {
    let connect = connect.options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")]);
    let pool = PgPoolOptions::new().max_connections(1).connect_with(connect).await;
    pool.expect("a connection")
}

async fn versions(pool: &PgPool) -> Versions {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/pipeline/receipts.toml");
    let source = Source::read(shipped.as_ref()).expect("it is shipped");
    let pipeline = Pipeline::compile(source).expect("it is shipped");
    Versions::start(pool.clone(), pipeline)
        .await
        .expect("the database answers")
}

/// So many receipts of three merchants, the third with few, in every state, at several stages, for two destinations; one a
/// second.
async fn fill(pool: &PgPool, version: &str, count: i32) {
    let sql = format!(
        "create temporary table given as
         select n, overlay(uuid_from(now() - interval '1 day' + n * interval '1 s')::text placing substr(md5(n::text)::uuid::text, 15) from 15 for 22)::uuid as id,
                case when n % 100 = 0 then 'm-3' else 'm-' || n % 2 end as merchant, n % 20 as kind,
                case when n % 3 = 0 then now() + (n / 30) * interval '1 s' end as deadline,
                case when n % 7 = 0 then 'other' else 'fiscal' end as destination, (n % 7 + 1)::smallint as position
         from generate_series(1, {count}) n;
         insert into receipts (id, merchant, external_id, pipeline, content, traceparent, deadline)
         select id, merchant, 'e-' || n, '{version}', '{{}}', '00-11111111111111111111111111111111-2222222222222222-01', deadline from given;
         insert into receipt_keys select merchant, 'e-' || n, id, '' from given;
         insert into finished (id, state, epoch, stage)
         select id, case when kind < 6 then 'registered' when kind < 8 then 'rejected' else 'cancelled' end::final_state, 1, 'fetch' from given where kind < 9;
         insert into work (id, pipeline, state, position, destination, epoch, owner, deadline, call_due_at, first_call_key, internal_due_at,
                           waits_for, failures, polls, unresolved)
         select id, '{version}',
                case kind when 9 then 'running' when 10 then 'parked' when 11 then 'queued' when 12 then 'dispatching' else 'waiting' end::open_state,
                position, destination, 1, case when kind in (9, 12) then id end, deadline,
                case when kind in (13, 14, 15) then now() + (n / 1000) * interval '1 minute' end,
                case when kind in (16, 17) then coalesce(deadline, 'infinity') end,
                case when kind = 18 then now() + (n / 1000) * interval '1 minute' end,
                case when kind = 19 then md5((n / 40)::text)::uuid end,
                (kind = 13)::int, (kind = 14)::int, kind = 15
         from given where kind >= 9"
    );
    let mut connection = pool.acquire().await.expect("a connection");
    let filled = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await;
    filled.expect("filled");
}

fn filter(given: Value) -> Filter {
    let filter: Filter = serde_json::from_value(given).expect("a filter");
    assert_eq!(filter.mistake(), None);
    filter
}

/// Every window of a walk.
async fn walk(pool: &PgPool, versions: &Versions, filter: &Filter, order: Order, bounds: Bounds) -> Vec<Window> {
    let (mut windows, mut after) = (Vec::new(), None);
    loop {
        let window = search::window(pool, versions, filter, order, after.take(), bounds).await;
        let window = window.expect("the database answers");
        assert!(
            window.ids.len() <= bounds.most && window.examined <= bounds.examine,
            "{window:?}"
        );
        // As a client carries it.
        after = window.next.as_ref().and_then(|next| Cursor::read(&next.word()));
        assert_eq!(after, window.next);
        assert!(after.as_ref().is_none_or(|after| after.fits(filter, order)));
        windows.push(window);
        if after.is_none() {
            return windows;
        }
    }
}

/// What each filter means, in SQL over everything, and the index that a walk in the nearest order goes along.
fn cases() -> Vec<(Value, &'static str, &'static str)> {
    vec![
        (json!({}), "true", "receipts"),
        (json!({"merchant": "m-3"}), "merchant = 'm-3'", "receipt_keys_pkey"),
        (
            json!({"merchant": "m-1", "external_id": "e-41"}),
            "external_id = 'e-41'",
            "receipt_keys_pkey",
        ),
        (
            json!({"state": "registered", "merchant": "m-1"}),
            "f.state = 'registered' and merchant = 'm-1'",
            "receipt_keys_pkey",
        ),
        (
            json!({"state": "registered", "stage": "fetch"}),
            "f.state = 'registered'",
            "finished",
        ),
        (
            json!({"state": "rejected"}),
            "f.state = 'rejected'",
            "finished_unregistered",
        ),
        (
            json!({"state": "cancelled", "merchant": "m-1"}),
            "f.state = 'cancelled' and merchant = 'm-1'",
            "finished_unregistered",
        ),
        (json!({"state": "parked"}), "w.state = 'parked'", "work_parked"),
        (
            json!({"state": "parked", "destination": "other"}),
            "w.state = 'parked' and destination = 'other'",
            "work_parked_for",
        ),
        (
            json!({"state": "parked", "merchant": "m-3"}),
            "w.state = 'parked' and merchant = 'm-3'",
            "work_parked",
        ),
        (json!({"state": "running"}), "w.state = 'running'", "work_pkey"),
        (
            json!({"state": "waiting", "destination": "other"}),
            "w.state = 'waiting' and destination = 'other'",
            "work_call_due",
        ),
        (
            json!({"destination": "fiscal", "stage": "register"}),
            "destination = 'fiscal' and position = 5",
            "work_pkey",
        ),
        (json!({"outcome": "unknown"}), "unresolved", "work_pkey"),
        (
            json!({"outcome": "retry", "state": "waiting", "destination": "fiscal"}),
            "failures > 0 and destination = 'fiscal'",
            "work_first_call",
        ),
        (
            json!({"outcome": "poll", "merchant": "m-0"}),
            "polls > 0 and merchant = 'm-0'",
            "work_pkey",
        ),
        (json!({"outcome": "undeclared"}), "undeclared > 0", "work_pkey"),
        (json!({"stage": "tax"}), "false", "receipts"),
    ]
}

/// Filters by time, of now: the deadline is before the `n`th second.
fn timed() -> Vec<(Value, String)> {
    use time::format_description::well_known::Rfc3339;
    let text = |at: OffsetDateTime| at.format(&Rfc3339).expect("a time");
    let (soon, ago) = (
        OffsetDateTime::now_utc() + time::Duration::seconds(20),
        OffsetDateTime::now_utc() - time::Duration::hours(23),
    );
    let ids = format!("r.id < uuid_from('{}')", text(ago));
    vec![
        (
            json!({"deadline_before": text(soon)}),
            format!("w.deadline < '{}'", text(soon)),
        ),
        (
            json!({"deadline_before": text(soon), "destination": "other"}),
            format!("w.deadline < '{}' and destination = 'other'", text(soon)),
        ),
        (
            json!({"accepted_before": text(ago), "state": "queued"}),
            format!("w.state = 'queued' and {ids}"),
        ),
        (
            json!({"accepted_after": text(ago), "state": "parked"}),
            format!("w.state = 'parked' and not {ids}"),
        ),
        (json!({"accepted_before": text(ago)}), ids),
        (json!({"moved_before": text(ago)}), "false".to_owned()),
    ]
}

#[sqlx::test(migrations = "../migrations")]
async fn each_receipt_that_is_meant_is_met_once_and_no_other(pool: PgPool) {
    let versions = versions(&pool).await;
    fill(&pool, &versions.current().version, 3000).await;
    let cases = cases().into_iter().map(|(given, truth, _)| (given, truth.to_owned()));
    for (given, truth) in cases.chain(timed()) {
        let sql = format!(
            "select r.id from receipts r left join work w on w.id = r.id left join finished f on f.id = r.id where {truth}"
        );
        let expected: BTreeSet<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&pool)
            .await
            .expect(&truth)
            .into_iter()
            .collect();
        let filter = filter(given.clone());
        for order in [Order::Nearest, Order::ById] {
            for bounds in [
                Bounds {
                    examine: 2000,
                    most: 50,
                },
                Bounds { examine: 7, most: 3 },
            ] {
                let windows = walk(&pool, &versions, &filter, order, bounds).await;
                let met: Vec<Uuid> = windows.into_iter().flat_map(|window| window.ids).collect();
                assert_eq!(
                    met.iter().copied().collect::<BTreeSet<_>>(),
                    expected,
                    "{given} {order:?}"
                );
                assert_eq!(met.len(), expected.len(), "{given} {order:?}: met twice");
            }
        }
        let by_id = walk(
            &pool,
            &versions,
            &filter,
            Order::ById,
            Bounds {
                examine: 2000,
                most: 500,
            },
        )
        .await;
        let by_id: Vec<Uuid> = by_id.into_iter().flat_map(|window| window.ids).collect();
        assert!(
            filter.merchant.is_some() || by_id.is_sorted(),
            "{given}: in the order of ids"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_window_is_bounded_and_says_where_the_next_begins(pool: PgPool) {
    let versions = versions(&pool).await;
    fill(&pool, &versions.current().version, 2000).await;
    // Nothing is undeclared: every window looks at its entries, and finds none.
    let undeclared = filter(json!({"outcome": "undeclared"}));
    let windows = walk(
        &pool,
        &versions,
        &undeclared,
        Order::Nearest,
        Bounds { examine: 300, most: 50 },
    )
    .await;
    let examined: Vec<usize> = windows.iter().map(|window| window.examined).collect();
    assert_eq!(examined, [300, 300, 300, 200]);
    let other = Cursor::read(&windows[0].next.as_ref().expect("a next").word()).expect("a cursor");
    assert!(
        !other.fits(&filter(json!({"merchant": "m-1"})), Order::Nearest),
        "of another walk"
    );
}

/// The plans of all statements that were prepared, by their text.
async fn plans(pool: &PgPool) -> BTreeMap<String, String> {
    let sql = "select name, statement, cardinality(parameter_types) as parameters from pg_prepared_statements
               where statement ~ '(work|finished|receipts|receipt_keys)' and statement !~ '(pg_prepared|explain|insert|temporary)'";
    let mut plans = BTreeMap::new();
    for row in sqlx::query(sql).fetch_all(pool).await.expect("they are kept") {
        let (name, statement, parameters): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
        let nulls = vec!["null"; usize::try_from(parameters).unwrap_or_default()];
        let arguments = if nulls.is_empty() {
            String::new()
        } else {
            format!("({})", nulls.join(", "))
        };
        let explain = format!("explain (costs off) execute {name}{arguments}");
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
            .fetch_all(pool)
            .await
            .expect("a plan");
        plans.insert(statement, lines.join("\n"));
    }
    plans
}

#[sqlx::test(migrations = "../migrations")]
async fn every_walk_goes_along_an_index_whenever_its_plan_was_made(_: PgPoolOptions, connect: PgConnectOptions) {
    let pool = one_connection(connect).await;
    let versions = versions(&pool).await;
    let read_all = async || {
        let cases = cases().into_iter().map(|(given, ..)| given);
        for given in cases.chain(timed().into_iter().map(|(given, _)| given)) {
            for order in [Order::Nearest, Order::ById] {
                walk(
                    &pool,
                    &versions,
                    &filter(given.clone()),
                    order,
                    Bounds {
                        examine: 2000,
                        most: 50,
                    },
                )
                .await;
            }
        }
    };
    read_all().await;
    let plans_of_nothing = plans(&pool).await;
    fill(&pool, &versions.current().version, 20_000).await;
    for sql in [
        "vacuum analyze work",
        "vacuum analyze finished",
        "vacuum analyze receipts",
        "vacuum analyze receipt_keys",
        "discard plans",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("done");
    }
    read_all().await;
    for plans in [plans_of_nothing, plans(&pool).await] {
        assert!(plans.len() >= 15, "{plans:#?}");
        for (statement, plan) in &plans {
            assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
            // Deadlines of several destinations are merged, and refunds of one original are sorted.
            let sorts = plan
                .lines()
                .filter(|line| line.trim_start_matches([' ', '-', '>']).ends_with("Sort"))
                .count();
            let may = plan.contains("work_deadline") || plan.contains("work_waits_for");
            assert!(sorts == 0 || may, "{statement}\n{plan}");
        }
        for (given, _, index) in cases() {
            let partitioned = index.trim_end_matches("_unregistered");
            assert!(
                plans
                    .values()
                    .any(|plan| plan.contains(index) || plan.contains(partitioned)),
                "{given}: {index}"
            );
        }
    }
}
