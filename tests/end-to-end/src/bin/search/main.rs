//! An operator's reading behind a million receipts, two hundred thousand of which wait: every answer within 50 ms, all but one
//! in a hundred, and by indexes alone.

mod ask;
mod fill;
mod plans;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use comfy_table::Table;
use end_to_end::{Options, Stack, fixture, fresh, read};
use serde_json::json;

use crate::ask::Question;
use crate::fill::Filling;

/// Prepares receipts, and measures every way of reading them over HTTP
#[derive(Debug, Parser)]
struct Arguments {
    /// Receipts in all
    #[arg(default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..))]
    receipts: u64,
    /// Those of them that wait
    #[arg(default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(500..))]
    waiting: u64,
    /// How often each question is asked
    #[arg(default_value_t = 300)]
    times: usize,
}

/// All but one in a hundred answers have to be there within this time.
const WITHIN: Duration = Duration::from_millis(50);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    ensure!(arguments.waiting < arguments.receipts, "more wait than there are");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/pipeline/receipts.toml");
    let options = Options {
        pipeline: Some(shipped.into()),
        ..Options::default()
    };
    let mut stack = Stack::start(&options).await?;
    pattern(&mut stack).await?;
    let begun = Instant::now();
    let filling = Filling {
        count: arguments.receipts,
        waiting: arguments.waiting,
    };
    tokio::task::block_in_place(|| filling.fill(&stack.database))?;
    println!(
        "{} receipts, {} of them waiting; made in {:.0} s",
        arguments.receipts,
        arguments.waiting,
        begun.elapsed().as_secs_f64()
    );

    let plans = plans::read(&stack.database.url(), shipped.as_ref()).await?;
    println!("{} plans were read: none scans a table", plans.len());
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header(["question", "answers", "median, ms", "99 of 100, ms", "most, ms"]);
    let mut late = Vec::new();
    for question in Question::all(&stack.database)? {
        let took = question.ask(&stack.orchestrators[0].api, arguments.times).await?;
        let ms = |took: Duration| format!("{:.1}", took.as_secs_f64() * 1000.0);
        table.add_row([
            question.name.clone(),
            took.answers.to_string(),
            ms(took.at(50)),
            ms(took.at(99)),
            ms(took.at(100)),
        ]);
        if took.at(99) > WITHIN {
            late.push(question.name.clone());
        }
    }
    println!("{table}");
    for name in &late {
        eprintln!("took longer than {} ms: {name}", WITHIN.as_millis());
    }
    Ok(if late.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Has one receipt registered, the pattern of all others, and stops the destination: nobody touches what waits for it.
async fn pattern(stack: &mut Stack) -> anyhow::Result<()> {
    let templates = read(&fixture("valid.ndjson"))?.split_off(10);
    stack.post_all(&fresh(&templates, 1)).await?;
    stack.settled(Duration::from_mins(1)).await;
    ensure!(stack.judge().await?.all_registered(), "the pattern is not registered");
    let api = &stack.orchestrators[0].api;
    let paused = api
        .change("fiscal", &json!({"state": "paused", "reason": "a measurement"}))
        .await?;
    ensure!(paused.status == 200, "{}", paused.body);
    stack.all_know("fiscal", false, Duration::from_secs(10)).await;
    Ok(())
}
