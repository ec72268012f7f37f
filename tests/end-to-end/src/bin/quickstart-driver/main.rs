//! The quickstart's demonstration: posts receipts at a steady rate, takes the fiscal API down in the middle, and shows
//! what became of everything.

mod display;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use end_to_end::{Api, Ledger, Posted, Verdict, early_stages, fresh, in_parallel, judge, percentile, read};
use serde_json::{Value, json};

use display::Display;

/// Posts receipts, breaks the fiscal API for a while, and judges
#[derive(Debug, Parser)]
struct Arguments {
    /// The intake
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    intake: String,
    /// The simulator
    #[arg(long, default_value = "http://127.0.0.1:8090")]
    simulator: String,
    /// The file of tokens: `operator=…`
    #[arg(long)]
    tokens: PathBuf,
    /// Receipts, one JSON object a line
    #[arg(long)]
    receipts: PathBuf,
    /// How many to post; the file is used over and over
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// How many a second
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// For how many seconds the fiscal API is down; 0 for not at all
    #[arg(long, default_value_t = 10)]
    outage: u32,
    /// How many seconds after the last post and the outage everything must be registered
    #[arg(long, default_value_t = 180)]
    limit: u64,
    /// The stages that call internal services
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "validate,enrich,calculate,number,document"
    )]
    internal: Vec<String>,
}

/// When the fiscal API is down, from the first post on.
#[derive(Debug, Clone, Copy)]
struct Outage {
    from: Duration,
    to: Duration,
}

/// One receipt that was accepted.
#[derive(Debug, Clone)]
struct Accepted {
    posted: Posted,
    at: Duration,
    took: Duration,
}

/// What the display and the poller share with the posts.
#[derive(Debug, Default)]
struct Progress {
    accepted: Mutex<Vec<Accepted>>,
    refused: Mutex<Vec<String>>,
    posted: AtomicUsize,
    registered: AtomicUsize,
    down: AtomicBool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let api = Api::new(&arguments.intake, token(&arguments.tokens)?);
    let ledger = Ledger::new(&arguments.simulator);
    let templates = read(&arguments.receipts)?;
    ensure!(!templates.is_empty(), "{}: no receipts", arguments.receipts.display());
    let count = usize::try_from(arguments.count)?;
    let receipts = fresh(&templates, count);
    let outage = middle(&arguments);

    let progress = Arc::new(Progress::default());
    let begun = Instant::now();
    let breaking = tokio::spawn(break_fiscal(ledger.clone(), outage, Arc::clone(&progress)));
    let watching = tokio::spawn(watch(api.clone(), count, Arc::clone(&progress), begun));
    post_steadily(&api, receipts, arguments.rate, &progress, begun).await;
    breaking.await??;
    let all_final = tokio::time::timeout(Duration::from_secs(arguments.limit), watching).await;

    let accepted = list(&progress.accepted).clone();
    let posted: Vec<_> = accepted.iter().map(|accepted| accepted.posted.clone()).collect();
    let verdict = judge(&api, &ledger, &posted).await?;
    println!("\n{}", table(&api, &arguments, outage, &accepted, &verdict).await?);
    let refused = list(&progress.refused).clone();
    explain(&arguments, &verdict, &refused, all_final.is_ok());
    let good = refused.is_empty() && accepted.len() == count && verdict.all_registered();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn list<T>(list: &Mutex<Vec<T>>) -> std::sync::MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

fn token(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let token = text.lines().find_map(|line| line.strip_prefix("operator="));
    Ok(token
        .with_context(|| format!("{}: no line operator=…", path.display()))?
        .to_owned())
}

/// In the middle of the posts; a long one begins after a quarter of them.
fn middle(arguments: &Arguments) -> Option<Outage> {
    let whole = Duration::from_secs(1) * arguments.count / arguments.rate;
    let length = Duration::from_secs(u64::from(arguments.outage));
    let from = if length * 2 <= whole {
        whole.saturating_sub(length) / 2
    } else {
        whole / 4
    };
    (arguments.outage > 0).then_some(Outage {
        from,
        to: from + length,
    })
}

async fn break_fiscal(ledger: Ledger, outage: Option<Outage>, progress: Arc<Progress>) -> anyhow::Result<()> {
    let Some(Outage { from, to }) = outage else {
        return Ok(());
    };
    tokio::time::sleep(from).await;
    // Ends by itself, should this program not live to end it.
    let length = to.saturating_sub(from);
    ledger
        .set_faults(&json!({"fiscal": {"mode": "error", "status": 503, "for_s": length.as_secs() + 5}}))
        .await?;
    progress.down.store(true, Ordering::Relaxed);
    tokio::time::sleep(length).await;
    ledger.clear_faults().await?;
    progress.down.store(false, Ordering::Relaxed);
    Ok(())
}

/// Posts on time whether or not the posts before were answered.
async fn post_steadily(api: &Api, receipts: Vec<Value>, rate: u32, progress: &Arc<Progress>, begun: Instant) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut posts = tokio::task::JoinSet::new();
    for receipt in receipts {
        ticks.tick().await;
        let (api, progress) = (api.clone(), Arc::clone(progress));
        posts.spawn(async move {
            let at = begun.elapsed();
            let answer = api.post_until_answered(&receipt, Duration::from_secs(30)).await;
            let took = begun.elapsed().saturating_sub(at);
            let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let (merchant, external_id) = (name(&receipt["merchant"]["id"]), name(&receipt["external_id"]));
            match answer {
                Ok(answer) if answer.is_accepted() => {
                    let id = answer.id().unwrap_or_default().to_owned();
                    list(&progress.accepted).push(Accepted {
                        posted: Posted {
                            id,
                            merchant,
                            external_id,
                        },
                        at,
                        took,
                    });
                }
                Ok(answer) => list(&progress.refused).push(format!("{external_id}: {} {}", answer.status, answer.body)),
                Err(error) => list(&progress.refused).push(format!("{external_id}: {error:#}")),
            }
            progress.posted.fetch_add(1, Ordering::Relaxed);
        });
    }
    posts.join_all().await;
}

/// Shows how it goes until nothing is on its way any more.
async fn watch(api: Api, count: usize, progress: Arc<Progress>, begun: Instant) {
    let mut display = Display::new(count);
    let mut ticks = tokio::time::interval(Duration::from_millis(500));
    let (mut seen, mut open) = (0, Vec::<Posted>::new());
    loop {
        ticks.tick().await;
        let posted = progress.posted.load(Ordering::Relaxed);
        {
            let accepted = list(&progress.accepted);
            open.extend(accepted[seen..].iter().map(|accepted| accepted.posted.clone()));
            seen = accepted.len();
        }
        // The oldest ones only, while receipts are being posted: watching must not disturb what is measured.
        let some = if posted < count { open.len().min(40) } else { open.len() };
        let looked = in_parallel(open.drain(..some).collect::<Vec<_>>(), 8, |posted| {
            let api = api.clone();
            async move { (api.get(&posted.id).await.ok().flatten(), posted) }
        });
        let mut still = Vec::new();
        for (receipt, posted) in looked.await {
            match receipt {
                Some(receipt) if receipt.is_settled() => {
                    let one = usize::from(receipt.state == "registered");
                    progress.registered.fetch_add(one, Ordering::Relaxed);
                }
                _ => still.push(posted),
            }
        }
        still.append(&mut open);
        open = still;
        display.show(&progress, begun);
        if posted == count && open.is_empty() {
            display.end();
            return;
        }
    }
}

async fn table(
    api: &Api,
    arguments: &Arguments,
    outage: Option<Outage>,
    accepted: &[Accepted],
    verdict: &Verdict,
) -> anyhow::Result<Table> {
    let phase = |at: Duration| match outage {
        Some(Outage { from, .. }) if at < from => 0,
        Some(Outage { to, .. }) if at < to => 1,
        Some(_) => 2,
        None => 0,
    };
    let early = in_parallel(accepted.to_vec(), 8, |accepted| {
        let (api, internal) = (api.clone(), arguments.internal.clone());
        async move {
            let receipt = api.get(&accepted.posted.id).await?;
            anyhow::Ok((accepted, receipt.and_then(|receipt| early_stages(&receipt, &internal))))
        }
    });
    let mut counts = [0_usize; 3];
    let mut acknowledged: [Vec<time::Duration>; 3] = Default::default();
    let mut early_ends: [Vec<time::Duration>; 3] = Default::default();
    for early in early.await {
        let (accepted, early) = early?;
        let phase = phase(accepted.at);
        counts[phase] += 1;
        acknowledged[phase].push(accepted.took.try_into().unwrap_or(time::Duration::MAX));
        early_ends[phase].extend(early);
    }
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header(["", "all", "before the outage", "during", "after"]);
    let [before, during, after] = counts.map(|count| count.to_string());
    table.add_row(["accepted".to_owned(), accepted.len().to_string(), before, during, after]);
    for (name, count) in [
        ("registered", verdict.registered),
        ("rejected", verdict.rejected),
        ("parked", verdict.parked.len()),
        ("unfinished", verdict.unfinished.len()),
        ("registered twice", verdict.twice.len()),
        ("lost", verdict.lost.len()),
    ] {
        table.add_row([
            name.to_owned(),
            count.to_string(),
            String::new(),
            String::new(),
            String::new(),
        ]);
    }
    for (name, values) in [("acknowledgement p99", acknowledged), ("early stages p99", early_ends)] {
        let [before, during, after] = values.each_ref().map(|values| milliseconds(values));
        table.add_row([name.to_owned(), milliseconds(&values.concat()), before, during, after]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(table)
}

fn milliseconds(values: &[time::Duration]) -> String {
    percentile(values, 99).map_or_else(
        || "–".to_owned(),
        |value| format!("{:.0} ms", value.as_seconds_f64() * 1000.0),
    )
}

fn explain(arguments: &Arguments, verdict: &Verdict, refused: &[String], in_time: bool) {
    if !in_time {
        println!(
            "Not everything was final {} s after the last post and the outage.",
            arguments.limit
        );
    }
    for (title, names) in [
        ("not accepted", refused),
        ("parked", &verdict.parked),
        ("unfinished", &verdict.unfinished),
        ("registered twice", &verdict.twice),
        ("lost", &verdict.lost),
        ("registered, but said not to be", &verdict.denied),
    ] {
        for name in names.iter().take(5) {
            println!("{title}: {name}");
        }
        if names.len() > 5 {
            println!("{title}: and {} more", names.len() - 5);
        }
    }
}
