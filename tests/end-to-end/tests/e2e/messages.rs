//! The broker doubles, delays, garbles and loses messages: none of it matters.

use std::time::Duration;

use end_to_end::{Stack, eventually};
use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::{all_registered, quick, receipts};

pub async fn broker(stack: &Stack) -> (Connection, Channel) {
    let connection = Connection::connect(&stack.urls.amqp, ConnectionProperties::default())
        .await
        .expect("the broker is there");
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// The queue of the fiscal API.
pub fn queue(stack: &Stack) -> String {
    let prefix = stack
        .directory()
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    format!("{prefix}.fiscal")
}

/// Publishes a message as an orchestrator would.
pub async fn publish(channel: &Channel, queue: &str, body: &str) {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let published = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
    published.await.unwrap();
}

/// Waits until nothing is in the queue any more.
pub async fn all_acknowledged(channel: &Channel, queue: &str) {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    eventually(Duration::from_secs(30), "every message was acknowledged", async || {
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        declared.await.is_ok_and(|queue| queue.message_count() == 0)
    })
    .await;
}

/// Waits until `count` receipts are queued.
pub async fn all_queued(stack: &Stack, count: usize) {
    eventually(Duration::from_secs(30), "all are handed off", async || {
        stack
            .database
            .sql("select count(*) from work where state = 'queued'")
            .unwrap_or_default()
            .trim()
            == count.to_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubled_a_stale_and_an_unreadable_message_do_no_harm() {
    let mut stack = Stack::start(&quick()).await.unwrap();
    stack.dispatchers[0].process.signal("STOP").unwrap();
    stack.post_all(&receipts(20)).await.unwrap();
    all_queued(&stack, 20).await;

    let (connection, channel) = broker(&stack).await;
    let queue = queue(&stack);
    let publish = async |body: String| publish(&channel, &queue, &body).await;
    for row in stack.database.sql("select id, epoch from work").unwrap().lines() {
        let (id, epoch) = row.split_once('|').unwrap();
        let epoch: i32 = epoch.trim().parse().unwrap();
        publish(format!(r#"{{"id":"{id}","epoch":{epoch}}}"#)).await;
        publish(format!(r#"{{"id":"{id}","epoch":{}}}"#, epoch - 1)).await;
    }
    publish("not ours".to_owned()).await;

    stack.dispatchers[0].process.signal("CONT").unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
    all_acknowledged(&channel, &queue).await;
    connection.close(200, "bye".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_costs_time_only() {
    let mut stack = Stack::start(&quick()).await.unwrap();
    stack.dispatchers[0].process.kill().unwrap();
    stack.post_all(&receipts(20)).await.unwrap();
    all_queued(&stack, 20).await;

    let (connection, channel) = broker(&stack).await;
    channel
        .queue_delete(queue(&stack).as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    connection.close(200, "bye".into()).await.unwrap();

    let directory = stack.directory().to_path_buf();
    stack.dispatchers[0].restart(&directory).await.unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
}
