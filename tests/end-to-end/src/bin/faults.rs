//! Each fault of the simulator at each target, one after the other on one stack; a table of what became of the receipts.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use end_to_end::{Options, Stack, every_fault, receipts_with_sellers};

/// Strikes every target with every fault, and judges
#[derive(Debug, Parser)]
struct Arguments {
    /// Receipts posted into each fault
    #[arg(long, default_value_t = 10)]
    receipts: usize,
    /// Only targets, or faults, whose name has this in it
    #[arg(long, default_value = "")]
    only: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let options = Options::default()
        .with("destination.fiscal.timeout", "2s")
        .with("destination.fiscal.probe", "500ms")
        .with("destination.fiscal.probe_max", "1s")
        .with("destination.fiscal.slow_start", "1s")
        .with("service.tax.timeout", "2s");
    let options = ["validation", "catalog", "sellers", "numbers", "documents"]
        .iter()
        .fold(options, |options, service| {
            options.with(&format!("service.{service}.timeout"), "2s")
        });
    let mut stack = Stack::start(&options).await?;
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table.set_header([
        "target",
        "fault",
        "receipts",
        "calls struck",
        "registered once",
        "seconds",
    ]);
    let chosen = every_fault()
        .into_iter()
        .filter(|fault| fault.target.contains(&arguments.only) || fault.name.contains(&arguments.only));
    let (mut held, mut failed) = (0, 0);
    for fault in chosen {
        let begun = Instant::now();
        let outcome = fault
            .strike(&mut stack, &receipts_with_sellers(arguments.receipts)?)
            .await;
        let (struck, registered) = match &outcome {
            Ok(struck) => (struck.to_string(), "all".to_owned()),
            Err(_) => ("?".to_owned(), "NOT ALL".to_owned()),
        };
        match outcome {
            Ok(_) => held += 1,
            Err(error) => {
                failed += 1;
                eprintln!("{error:#}");
                stack.ledger.clear_faults().await?;
            }
        }
        println!("{} {}: {registered}", fault.target, fault.name);
        table.add_row([
            fault.target.to_owned(),
            fault.name.to_owned(),
            arguments.receipts.to_string(),
            struck,
            registered,
            format!("{:.1}", begun.elapsed().as_secs_f64()),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}\n{held} passed, {failed} failed");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
