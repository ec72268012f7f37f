//! PostgreSQL and RabbitMQ go and come back. The broker's absence stops hand-offs and nothing before them; the database's
//! stops everything and kills nobody.

use std::time::Duration;

use end_to_end::{Options, Servers, Stack, eventually};

use super::messages::queue;
use super::{all_registered, quick, receipts};

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
    let mut stack = Stack::start(&options).await.unwrap();
    a_broker_that_is_full_blocks_hand_offs_alone(&mut stack, &servers).await;
    connections_are_cut_and_the_queue_is_deleted(&mut stack, &servers).await;
    a_broker_is_restarted(&mut stack, &servers).await;
    a_database_is_restarted(&mut stack, &servers).await;
    drop(stack);
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

async fn a_database_is_restarted(stack: &mut Stack, servers: &Servers) {
    stack.post_all(&receipts(40)).await.unwrap();
    let owners = stack.database.sql("select id from instances order by id").unwrap();
    servers.run(&["stop", "postgres"]).unwrap();
    not_ready(stack, "postgresql").await;
    let refused = stack.orchestrators[0].api.post(&receipts(1)[0]).await.unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.retry_after.is_some());
    servers.run(&["start", "postgres"]).unwrap();
    stack.post_all(&receipts(20)).await.unwrap();
    stack.settled(LIMIT).await;
    all_registered(stack).await;
    let after = stack.database.sql("select id from instances order by id").unwrap();
    assert_eq!(owners, after, "nobody was taken for dead");
}
