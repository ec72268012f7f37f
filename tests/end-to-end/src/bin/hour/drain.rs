//! The API is well again: it opens, slowly, and what waited goes through at the limit, the urgent first and the fresh meanwhile.

use std::time::{Duration, Instant};

use end_to_end::{Stack, eventually};
use time::OffsetDateTime;
use tokio::time::sleep;

use crate::outage::NAME;
use crate::plan::{LIMIT, Plan, SAMPLE, SLOW_START, USED};
use crate::report::{Report, percentiles, seconds};
use crate::samples::{Samples, destination, fiscal, number, times};

/// While more than so many receipts are open there is enough to call for: some wait for a timer.
const ENOUGH: u64 = 4 * LIMIT as u64;
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_secs(2);
/// How much later than expected is late.
const LATE: Duration = Duration::from_secs(2);
/// How long a fresh receipt may take meanwhile: twice through a horizon (its receipts make two calls each: 4 s), a poll that
/// waits 2 s between, and as much again.
const FRESH: Duration = Duration::from_secs(20);

/// Ends the outage and waits until the backlog is registered.
pub async fn run(stack: &Stack, plan: &Plan, samples: &mut Samples, report: &mut Report) -> anyhow::Result<()> {
    stack.ledger.clear_faults().await?;
    let well = Instant::now();
    let is = async |what: &str, value: serde_json::Value, limit: Duration| {
        let sentence = format!("{what} is {value}");
        eventually(limit, &sentence, async || {
            destination(stack).await.is_ok_and(|view| view[what] == value)
        })
        .await;
    };
    is("state", "open".into(), 2 * Plan::until_open()).await;
    let opened = Instant::now();
    let before = fiscal(&stack.ledger.summary().await?);
    report.figure("until it was open", seconds(opened - well));
    report.must(opened - well <= Plan::until_open(), || {
        format!(
            "it took {:?} until it was open, of {:?}",
            opened - well,
            Plan::until_open()
        )
    });
    is("speed", 1.0.into(), 2 * SLOW_START).await;
    let (full, at_full) = (Instant::now(), OffsetDateTime::now_utc());
    report.figure("slow start", seconds(full - opened));
    report.must(full - opened <= SLOW_START + LATE, || {
        format!("slow start took {:?}, of {SLOW_START:?}", full - opened)
    });
    rate(stack, plan, samples, report).await?;
    let limited = OffsetDateTime::now_utc();
    let limit = 2 * Plan::drained(plan.calls());
    eventually(limit, "the backlog is registered", async || {
        let left = "select count(*) from work join receipt_keys on receipt = id where external_id like";
        number(stack, &format!("{left} '{NAME}-%'")).is_ok_and(|left| left == 0)
    })
    .await;
    let took = opened.elapsed();
    let ended = number(stack, "select count(*) from finished")?;
    let calls = fiscal(&stack.ledger.summary().await?) - before;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let (calls, ended) = (calls as f64, ended as f64);
    report.figure(
        format!("from its opening until all {} were registered", plan.receipts),
        format!(
            "{}: with the fresh ones {ended} receipts of {:.2} calls, for which the limit alone takes {:.0} s",
            seconds(took),
            calls / ended,
            calls / f64::from(LIMIT),
        ),
    );
    report.must(took <= Plan::drained(calls), || {
        format!("the backlog took {took:?}, of {:?}", Plan::drained(calls))
    });
    urgent(stack, report)?;
    meanwhile(stack, at_full, limited, report).await
}

/// Calls a second while there is enough to call for.
async fn rate(stack: &Stack, plan: &Plan, samples: &mut Samples, report: &mut Report) -> anyhow::Result<()> {
    let begun = Instant::now();
    let before = fiscal(&stack.ledger.summary().await?);
    let (mut looked, mut last) = (begun, (begun, before));
    while number(stack, "select count(*) from work")? > ENOUGH {
        last = (Instant::now(), fiscal(&stack.ledger.summary().await?));
        if looked.elapsed() >= SAMPLE {
            looked = Instant::now();
            samples.take(stack, "it is well", report).await?;
        }
        anyhow::ensure!(
            begun.elapsed() < 3 * Plan::drained(plan.calls()),
            "the backlog does not drain"
        );
        sleep(LOOK).await;
    }
    let time = last.0 - begun;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let rate = (last.1 - before) as f64 / time.as_secs_f64();
    let used = rate / f64::from(LIMIT);
    report.figure(
        format!("calls a second from then on, of a limit of {LIMIT}"),
        format!("{rate:.0} ({:.1} %), over {}", used * 100.0, seconds(time)),
    );
    report.must(used >= USED && time >= SAMPLE, || {
        format!("{rate:.1} calls a second over {time:?}, of {LIMIT}: less than {USED} of it")
    });
    Ok(())
}

/// Whether those with a deadline went first: of the others that are neither fresh nor were called for before, how many had
/// their first call before the last of them.
fn urgent(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let firsts = format!(
        "with firsts as (
             select receipts.id, deadline, started_at from receipts join calls on receipt = receipts.id
             where external_id like '{NAME}-%' and stage = 'register' and attempt = 1
               and started_at >= (select opened_at from destinations where name = 'fiscal')
         ), last as (
             select max(started_at) as at from firsts where deadline is not null
         )"
    );
    let overtook = number(
        stack,
        &format!(
            "{firsts} select count(*) from firsts, last, destinations where name = 'fiscal' and deadline is null and started_at < at
             and id < uuid_from(failed_at)"
        ),
    )?;
    let after = times(
        stack,
        &format!("{firsts} select extract(epoch from at - opened_at) from last, destinations where name = 'fiscal'"),
    )?;
    report.figure(
        "all that have a deadline had their call, after it opened",
        after
            .first()
            .map_or("never".to_owned(), |after| format!("{after:.1} s")),
    );
    report.figure(
        "of the others that wait their turn, called before the last of those",
        overtook,
    );
    report.must(overtook <= u64::try_from(Plan::out_of_turn())?, || {
        format!(
            "{overtook} receipts without a deadline were called before the last that has one, of {} in hand",
            Plan::out_of_turn()
        )
    });
    Ok(())
}

/// What it took fresh receipts from their acceptance to the end, while the backlog took all of the limit.
async fn meanwhile(stack: &Stack, from: OffsetDateTime, to: OffsetDateTime, report: &mut Report) -> anyhow::Result<()> {
    let accepted = format!(
        "from receipts left join finished using (id) where external_id not like '{NAME}-%'
         and accepted_at >= to_timestamp({}) and accepted_at < to_timestamp({})",
        from.unix_timestamp(),
        to.unix_timestamp()
    );
    eventually(FRESH, "the fresh ones are registered", async || {
        number(stack, &format!("select count(*) {accepted} and finished_at is null")).is_ok_and(|left| left == 0)
    })
    .await;
    let took = times(
        stack,
        &format!("select extract(epoch from finished_at - accepted_at) {accepted}"),
    )?;
    let [median, most] = percentiles(&took).map(|ms| ms / 1000.0);
    report.figure(
        format!(
            "fresh receipts meanwhile, from acceptance to registration, median and 99th percentile of {}",
            took.len()
        ),
        format!("{median:.1} and {most:.1} s"),
    );
    report.must(most <= FRESH.as_secs_f64(), || {
        format!("fresh receipts took {most:.1} s while the backlog drained, of {FRESH:?}")
    });
    Ok(())
}
