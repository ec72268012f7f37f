//! The judgement over everything that was accepted.

use std::time::Duration;

use end_to_end::{Stack, eventually};

use crate::plan::Plan;
use crate::report::Report;
use crate::samples::{number, sql};

/// How long the last receipts may take.
const LAST: Duration = Duration::from_mins(3);
/// What the tables must agree upon, by name: so many rows as there were receipts accepted.
const COUNTS: [(&str, &str); 3] = [
    ("receipts", "select count(*) from receipts"),
    ("keys of receipts", "select count(*) from receipt_keys"),
    (
        "ended as registered",
        "select count(*) from finished where state = 'registered'",
    ),
];

/// Waits for the last, and judges: the posted one by one, by what Chekhov says and by the ledger; the backlog, which nobody
/// posted, by the rows and the ledger's counts (so many registrations, none of them twice).
pub async fn run(stack: &Stack, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    eventually(LAST, "nothing is left in work", async || {
        number(stack, "select count(*) from work").is_ok_and(|left| left == 0)
    })
    .await;
    let verdict = stack.judge().await?;
    report.must(verdict.all_registered(), || format!("{verdict:#?}"));
    // The pattern was registered before the ledger forgot.
    let behind = plan.receipts + u64::try_from(stack.posted.len())?;
    let accepted = behind + 1;
    for (what, count) in COUNTS {
        let found = number(stack, count)?;
        report.must(found == accepted, || {
            format!("{accepted} were accepted, and {found} {what} are there")
        });
    }
    let others = sql(
        stack,
        "select state, count(*) from finished where state <> 'registered' group by state",
    )?;
    report.must(others.is_empty(), || format!("not all were registered: {others}"));
    let summary = stack.ledger.summary().await?;
    let (registrations, twice) = (&summary["registrations"], &summary["registered_twice"]);
    report.must(*registrations == behind && *twice == 0, || {
        format!("{behind} were to be registered, and the API has {registrations} registrations, {twice} of them doubled: {}", summary["twice"])
    });
    report.figure(
        format!(
            "accepted ({} posted fresh), registered, twice, lost, left in `work`",
            stack.posted.len()
        ),
        format!("{behind}, {registrations}, {twice}, {}, 0", verdict.lost.len()),
    );
    let most = |key: &str| summary[key].to_string();
    report.figure("most calls that arrived in one second", most("max_calls_in_1s"));
    Ok(())
}
