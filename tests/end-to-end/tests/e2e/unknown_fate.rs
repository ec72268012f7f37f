//! PostgreSQL does what it was asked, and the answer is lost: with a commit, with a claim, with anything.

use std::time::Duration;

use end_to_end::{Invariants, Options, Proxy, Stack, Urls};

use super::{all_registered, quick, receipts};

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_lost_after_the_commit_cost_time_only() {
    let proxy = Proxy::start(&Urls::from_environment().database).await.unwrap();
    let options = Options {
        proxy: Some(proxy.port()),
        ..quick()
    };
    let mut stack = Stack::start(&options).await.unwrap();
    let invariants = Invariants::watch(&stack.database);
    proxy.lose_one_in(40);
    let enough = |(lost, commits)| lost >= 15 && commits >= 5;
    for _ in 0..100 {
        stack.post_all(&receipts(20)).await.unwrap();
        if enough(proxy.lost()) {
            break;
        }
    }
    assert!(enough(proxy.lost()), "answers lost, and of commits: {:?}", proxy.lost());
    proxy.lose_one_in(0);
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
    invariants.hold().await;
    for posted in &stack.posted {
        let receipt = stack.shown(posted).await;
        assert_eq!(receipt.called_again(), None, "{receipt:#?}");
    }
}
