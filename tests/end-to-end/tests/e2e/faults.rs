//! What the services around us can do to a receipt: nothing is lost, nothing is registered twice, nothing succeeds twice.
//! Here each way once; `tests/faults` does each of them at each target.

use end_to_end::{Stack, one_of_each_mode, receipts_with_sellers};

use super::quick;

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_fail_costs_time_only() {
    let faults = one_of_each_mode();
    assert_eq!(faults.len(), 13);
    let mut stack = Stack::start(&quick()).await.unwrap();
    for fault in faults {
        fault
            .strike(&mut stack, &receipts_with_sellers(5).unwrap())
            .await
            .unwrap();
    }
}
