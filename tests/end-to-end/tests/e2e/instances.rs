//! Several of each, while each in turn dies, freezes or forgets: the others go on, and nothing is done twice.

use std::time::Duration;

use end_to_end::{Invariants, Member, Options, Stack, eventually};

use super::{all_registered, at_length, mortal, receipts};

const LIMIT: Duration = Duration::from_mins(1);

/// Longer than `dead_after` of [`mortal`], so that whoever is frozen is taken for dead before it wakes.
const FROZEN: Duration = Duration::from_secs(5);

async fn some_are_registered(stack: &Stack, before: u64) {
    eventually(LIMIT, "some are registered", async || {
        let summary = stack.ledger.summary().await.unwrap();
        summary["registrations"].as_u64().unwrap_or_default() >= before + 5
    })
    .await;
}

async fn registrations(stack: &Stack) -> u64 {
    stack.ledger.summary().await.unwrap()["registrations"]
        .as_u64()
        .unwrap_or_default()
}

/// The instance that was frozen is off the list: somebody else took over what it had.
async fn declared_dead(stack: &Stack, instances: usize) {
    eventually(FROZEN * 4, "the frozen one is taken for dead", async || {
        let listed = stack.database.sql("select count(*) from instances").unwrap();
        listed.parse::<usize>().unwrap() < instances
    })
    .await;
}

fn members(stack: &mut Stack) -> impl Iterator<Item = &mut Member> {
    stack.orchestrators.iter_mut().chain(&mut stack.dispatchers)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_orchestrators_and_three_dispatchers_dies_and_freezes_in_turn() {
    let options = Options {
        orchestrators: 2,
        dispatchers: 3,
        ..mortal()
    };
    let mut stack = Stack::start(&options).await.unwrap();
    let invariants = Invariants::watch(&stack.database);
    let directory = stack.directory().to_path_buf();
    for n in 0..5 {
        let before = registrations(&stack).await;
        stack.post_all(&receipts(30)).await.unwrap();
        some_are_registered(&stack, before).await;
        let member = members(&mut stack).nth(n).unwrap();
        member.process.kill().unwrap();
        member.restart(&directory).await.unwrap();
    }
    // The dead are buried before the next one is missed among the living.
    eventually(LIMIT, "five are listed", async || {
        stack.database.sql("select count(*) from instances").unwrap() == "5"
    })
    .await;
    let frozen: &[usize] = if at_length() { &[0, 1, 2, 3, 4] } else { &[0, 2] };
    for n in frozen.iter().copied() {
        let before = registrations(&stack).await;
        stack.post_all(&receipts(30)).await.unwrap();
        some_are_registered(&stack, before).await;
        members(&mut stack).nth(n).unwrap().process.signal("STOP").unwrap();
        declared_dead(&stack, 5).await;
        members(&mut stack).nth(n).unwrap().process.signal("CONT").unwrap();
        eventually(LIMIT, "it goes on as another", async || {
            stack.database.sql("select count(*) from instances").unwrap() == "5"
        })
        .await;
    }
    stack.settled(LIMIT).await;
    all_registered(&stack).await;
    invariants.hold().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_dispatcher_that_was_taken_for_dead_goes_on() {
    let mut stack = Stack::start(&mortal()).await.unwrap();
    stack.dispatchers[0].process.signal("STOP").unwrap();
    declared_dead(&stack, 2).await;
    stack.dispatchers[0].process.signal("CONT").unwrap();
    stack.post_all(&receipts(20)).await.unwrap();
    stack.settled(LIMIT).await;
    all_registered(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_healers_mend_once() {
    let options = Options {
        orchestrators: 2,
        dispatchers: 2,
        ..mortal()
    };
    let mut stack = Stack::start(&options).await.unwrap();
    stack.post_all(&receipts(60)).await.unwrap();
    for dispatcher in &mut stack.dispatchers {
        dispatcher.process.kill().unwrap();
    }
    let directory = stack.directory().to_path_buf();
    for dispatcher in &mut stack.dispatchers {
        dispatcher.restart(&directory).await.unwrap();
    }
    stack.settled(LIMIT).await;
    all_registered(&stack).await;
}
