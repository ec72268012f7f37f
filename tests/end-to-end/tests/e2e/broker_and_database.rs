//! PostgreSQL and RabbitMQ go and come back. The broker's absence stops hand-offs and nothing before them; the database's
//! stops everything and kills nobody.

use std::time::Duration;

use end_to_end::{Invariants, Options, Servers, Stack, eventually};
use serde_json::json;
use shared::store::relay::{self, Bounds, Walk};

use super::closed::change;
use super::messages::{all_acknowledged, all_queued, broker, publish, queue};
use super::{all_registered, at_length, quick, receipts};

const LIMIT: Duration = Duration::from_mins(1);

async fn waiting_for_their_first_call(stack: &Stack, count: usize) {
    eventually(LIMIT, "all internal stages are done", async || {
        let waiting = "select count(*) from work where first_call_key is not null";
        stack
            .database
            .sql(waiting)
            .is_ok_and(|found| found == count.to_string())
    })
    .await;
}

async fn not_ready(stack: &Stack, why: &str) {
    eventually(LIMIT, "the orchestrator says what it misses", async || {
        let answer = stack.orchestrators[0].api.call(&["readyz"]).await;
        answer.is_ok_and(|answer| answer.status == 503 && answer.body.to_string().contains(why))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_go_and_come_back_cost_time_only() {
    let servers = tokio::task::spawn_blocking(Servers::start).await.unwrap().unwrap();
    let options = Options {
        servers: Some(servers.urls().unwrap()),
        ..quick()
    };
    // Few at once, so that the queue is where most of them are.
    let options = options.with("destination.fiscal.concurrency", "4");
    let mut stack = Stack::start(&options).await.unwrap();
    let invariants = Invariants::watch(&stack.database);
    a_broker_that_is_full_blocks_hand_offs_alone(&mut stack, &servers).await;
    connections_are_cut_and_the_queue_is_deleted(&mut stack, &servers).await;
    the_queue_is_purged(&mut stack, &servers).await;
    a_broker_is_restarted(&mut stack, &servers).await;
    a_broker_loses_its_data(&mut stack, &servers).await;
    a_database_is_restarted(&mut stack, &servers).await;
    a_crash_takes_back_what_a_relay_queued(&mut stack, invariants).await;
}

async fn a_broker_that_is_full_blocks_hand_offs_alone(stack: &mut Stack, servers: &Servers) {
    servers
        .run(&["rabbitmqctl", "set_vm_memory_high_watermark", "0"])
        .unwrap();
    // The first message tells the broker to block; it is stored, and its receipt queued.
    stack.post_all(&receipts(1)).await.unwrap();
    not_ready(stack, "rabbitmq: blocked").await;
    stack.post_all(&receipts(20)).await.unwrap();
    waiting_for_their_first_call(stack, 20).await;
    servers
        .run(&["rabbitmqctl", "set_vm_memory_high_watermark", "0.4"])
        .unwrap();
    stack.settled(LIMIT).await;
    all_registered(stack).await;
}

async fn connections_are_cut_and_the_queue_is_deleted(stack: &mut Stack, servers: &Servers) {
    stack.post_all(&receipts(30)).await.unwrap();
    servers.run(&["rabbitmqctl", "close_all_connections", "cut"]).unwrap();
    stack.post_all(&receipts(10)).await.unwrap();
    servers.run(&["rabbitmqctl", "delete_queue", &queue(stack)]).unwrap();
    stack.post_all(&receipts(10)).await.unwrap();
    stack.settled(LIMIT).await;
    all_registered(stack).await;
}

async fn a_broker_is_restarted(stack: &mut Stack, servers: &Servers) {
    stack.post_all(&receipts(40)).await.unwrap();
    servers.run(&["stop", "rabbitmq"]).unwrap();
    not_ready(stack, "rabbitmq").await;
    stack.post_all(&receipts(30)).await.unwrap();
    eventually(LIMIT, "internal stages go on without a broker", async || {
        let waiting = "select count(*) from work where first_call_key is not null";
        let waiting: usize = stack.database.sql(waiting).unwrap().parse().unwrap();
        waiting >= 30
    })
    .await;
    servers.run(&["start", "rabbitmq"]).unwrap();
    stack.settled(LIMIT).await;
    all_registered(stack).await;
}

async fn the_queue_is_purged(stack: &mut Stack, servers: &Servers) {
    stack.dispatchers[0].process.signal("STOP").unwrap();
    stack.post_all(&receipts(40)).await.unwrap();
    eventually(LIMIT, "most of them are messages in the queue", async || {
        let queued = "select count(*) from work where state = 'queued'";
        stack.database.sql(queued).is_ok_and(|queued| queued == "40") && ready(stack, servers) >= 20
    })
    .await;
    servers.run(&["rabbitmqctl", "purge_queue", &queue(stack)]).unwrap();
    stack.post_all(&receipts(20)).await.unwrap();
    stack.dispatchers[0].process.signal("CONT").unwrap();
    stack.settled(LIMIT).await;
    all_registered(stack).await;
}

/// Messages in the queue that no consumer has.
fn ready(stack: &Stack, servers: &Servers) -> usize {
    let listed = servers.run(&["rabbitmqctl", "--quiet", "list_queues", "name", "messages_ready"]);
    let own = queue(stack);
    let listed = listed.unwrap();
    let line = listed.lines().find_map(|line| line.strip_prefix(own.as_str()));
    line.map_or(0, |count| count.trim().parse().unwrap())
}

async fn a_broker_loses_its_data(stack: &mut Stack, servers: &Servers) {
    stack.post_all(&receipts(60)).await.unwrap();
    servers.wipe_rabbitmq().unwrap();
    stack.post_all(&receipts(30)).await.unwrap();
    stack.settled(LIMIT).await;
    all_registered(stack).await;
}

async fn a_database_is_restarted(stack: &mut Stack, servers: &Servers) {
    stack.post_all(&receipts(40)).await.unwrap();
    let owners = stack.database.sql("select id from instances order by id").unwrap();
    servers.run(&["stop", "postgres"]).unwrap();
    not_ready(stack, "postgresql").await;
    let refused = stack.orchestrators[0].api.post(&receipts(1)[0]).await.unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after.is_some());
    if at_length() {
        // Three times as long as it takes to be dead.
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    servers.run(&["start", "postgres"]).unwrap();
    stack.post_all(&receipts(20)).await.unwrap();
    stack.settled(LIMIT).await;
    all_registered(stack).await;
    let after = stack.database.sql("select id from instances order by id").unwrap();
    assert_eq!(owners, after, "nobody was taken for dead");
}

/// A relay's commit waits for no disk. Its messages outlive it here: they come while the receipts wait again, and once more when
/// they were queued anew under the same epoch.
async fn a_crash_takes_back_what_a_relay_queued(stack: &mut Stack, invariants: Invariants) {
    let stale = async |stack: &Stack| {
        let measured = stack.dispatchers[0].measured("chekhov_stale_messages_total").await;
        measured.unwrap().unwrap_or_default()
    };
    let before = stale(stack).await;
    change(stack, json!({"state": "paused"})).await;
    stack.post_all(&receipts(20)).await.unwrap();
    waiting_for_their_first_call(stack, 20).await;
    stack.orchestrators[0].process.signal("STOP").unwrap();
    stack.dispatchers[0].process.signal("STOP").unwrap();
    stack.database.sql("checkpoint").unwrap();
    let writer = "select pid from pg_stat_activity where backend_type = 'walwriter'";
    let writer = stack.database.sql(writer).unwrap();
    // Nobody else would write the commit ahead.
    signal("STOP", &writer);
    let url = format!("{}?options=-c%20synchronous_commit%3Don", stack.database.url());
    let pool = shared::store::connect(&url, 1, "a relay").unwrap();
    let bounds = Bounds {
        max_queued: 100,
        limit: 100,
        only_sent: false,
        fresh_since: None,
        keys: None,
    };
    // Who looks at the right moment sees what is taken back: an epoch that falls.
    invariants.hold().await;
    let put = relay::queue(&pool, "fiscal", bounds, &mut Walk::default())
        .await
        .unwrap();
    assert_eq!(put.len(), 20);
    // PostgreSQL ends all that is left of itself, and recovers.
    signal("KILL", &writer);
    waiting_for_their_first_call(stack, 20).await;
    let invariants = Invariants::watch(&stack.database);

    let (connection, channel) = broker(stack).await;
    let queue = queue(stack);
    let publish_all = async || {
        for receipt in &put {
            let body = format!(r#"{{"id":"{}","epoch":{}}}"#, receipt.id, receipt.epoch);
            publish(&channel, &queue, &body).await;
        }
    };
    publish_all().await;
    // As the orchestrator would, which is still.
    let open = "update destinations set mode = 'open', version = version + 1 where name = 'fiscal'";
    stack.database.sql(open).unwrap();
    stack.dispatchers[0].process.signal("CONT").unwrap();
    eventually(LIMIT, "they are found stale", async || {
        stale(stack).await >= before + 20.0
    })
    .await;
    stack.dispatchers[0].process.signal("STOP").unwrap();
    stack.orchestrators[0].process.signal("CONT").unwrap();
    all_queued(stack, 20).await;
    publish_all().await;
    stack.dispatchers[0].process.signal("CONT").unwrap();
    stack.settled(LIMIT).await;
    all_registered(stack).await;
    all_acknowledged(&channel, &queue).await;
    connection.close(200, "bye".into()).await.unwrap();
    invariants.hold().await;
}

fn signal(signal: &str, pid: &str) {
    let sent = std::process::Command::new("kill")
        .args(["-s", signal, pid.trim()])
        .status();
    assert!(sent.unwrap().success(), "kill -s {signal} {pid}");
}
