//! Pairs of runs, and what they show.

#![expect(clippy::cast_precision_loss, reason = "counts of receipts and bytes, far below 2^52")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use end_to_end::{Cpu, Processes, Receipts, Stack};

use crate::Throughput;
use crate::bare::Bare;
use crate::loaded::{self, Times};

/// Receipts that go first and are not measured: connections are opened, statements prepared.
const WARMING: usize = 2_000;

/// Runs the pairs, in turn one and the other first, and prints the figures.
pub async fn run(stack: &Stack, template: &str, arguments: &Throughput) -> anyhow::Result<()> {
    let bare = Bare::new(stack.ledger.base())?;
    let processes = Processes::of(stack)?;
    let width = arguments.concurrency;
    bare.run(&Arc::new(Receipts::new(template)?), WARMING, width).await?;
    loaded::run(stack, &Receipts::new(template)?, WARMING, width)?;

    let mut figures = Figures::default();
    for pair in 0..arguments.pairs {
        let mut seconds = [Duration::ZERO; 2];
        for turn in [pair % 2, 1 - pair % 2] {
            stack.ledger.forget().await?;
            let receipts = Arc::new(Receipts::new(template)?);
            if turn == 0 {
                seconds[0] = bare.run(&receipts, arguments.receipts, width).await?;
                registered(stack, arguments.receipts).await?;
            } else {
                let before = (processes.cpu()?, Stored::of(stack)?);
                let took = loaded::run(stack, &receipts, arguments.receipts, width)?;
                let after = (processes.cpu()?, Stored::of(stack)?);
                registered(stack, arguments.receipts).await?;
                seconds[1] = took.whole;
                figures.costs(arguments.receipts, &before, &after);
                figures.times(took.times(stack).await?);
            }
        }
        figures.rates(arguments.receipts, seconds);
        println!(
            "pair {}: bare {:.0}/s, Chekhov {:.0}/s, ratio {:.3}",
            pair + 1,
            figures.last("bare, receipts/s"),
            figures.last("Chekhov, receipts/s"),
            figures.last("ratio to bare")
        );
    }
    for (name, mib) in processes.memory()? {
        figures.add(format!("memory at most, MiB: {name}"), mib as f64);
    }
    println!("{}", figures.table());
    Ok(())
}

/// Every receipt was registered once, by the simulator's count.
async fn registered(stack: &Stack, count: usize) -> anyhow::Result<()> {
    let summary = stack.ledger.summary().await?;
    ensure!(
        summary["registrations"] == count && summary["registered_twice"] == 0,
        "{count} receipts, and the simulator has: {summary}"
    );
    Ok(())
}

/// What PostgreSQL has written and keeps, in bytes.
pub struct Stored {
    wal: f64,
    tables: f64,
}

impl Stored {
    /// So far.
    pub fn of(stack: &Stack) -> anyhow::Result<Self> {
        let read = |sql: &str| -> anyhow::Result<f64> { Ok(stack.database.sql(sql)?.parse()?) };
        Ok(Self {
            wal: read("select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')")?,
            tables: read(
                "select sum(pg_relation_size(oid)) from pg_class where relkind in ('r', 'i', 't') and relnamespace <> 'pg_catalog'::regnamespace",
            )?,
        })
    }
}

/// Values by what they are called, in the order of their first appearance: one of each pair.
#[derive(Debug, Default)]
pub struct Figures {
    names: Vec<String>,
    values: BTreeMap<String, Vec<f64>>,
}

type Before = (Cpu, Stored);

impl Figures {
    /// One more value of what is called so.
    pub fn add(&mut self, name: String, value: f64) {
        if !self.values.contains_key(&name) {
            self.names.push(name.clone());
        }
        self.values.entry(name).or_default().push(value);
    }

    fn rates(&mut self, count: usize, [bare, chekhov]: [Duration; 2]) {
        self.add("bare, receipts/s".to_owned(), count as f64 / bare.as_secs_f64());
        self.add("Chekhov, receipts/s".to_owned(), count as f64 / chekhov.as_secs_f64());
        self.add("ratio to bare".to_owned(), bare.as_secs_f64() / chekhov.as_secs_f64());
    }

    pub fn costs(&mut self, count: usize, before: &Before, after: &Before) {
        for (name, used) in &after.0 {
            let used = used.saturating_sub(before.0[name]).as_secs_f64();
            self.add(format!("CPU seconds/1,000: {name}"), used * 1000.0 / count as f64);
        }
        self.add(
            "WAL bytes/receipt".to_owned(),
            (after.1.wal - before.1.wal) / count as f64,
        );
        self.add(
            "stored bytes/receipt".to_owned(),
            (after.1.tables - before.1.tables) / count as f64,
        );
    }

    pub fn times(&mut self, took: Times) {
        for (name, mut times) in [
            ("acknowledgement", took.acknowledgement),
            ("early stages", took.early),
            ("whole way", took.way),
        ] {
            times.sort_unstable();
            for percent in [50, 99] {
                self.add(format!("{name}, p{percent} ms"), percentile(&times, percent));
            }
        }
    }

    /// What early stages took in one window.
    pub fn early(&mut self, window: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        for percent in [50, 99] {
            self.add(
                format!("{window}: early stages, p{percent} ms"),
                percentile(&times, percent),
            );
        }
    }

    /// What they are called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The newest value of what is called so.
    pub fn last(&self, name: &str) -> f64 {
        self.values
            .get(name)
            .and_then(|values| values.last())
            .copied()
            .unwrap_or(f64::NAN)
    }

    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table
            .load_preset(UTF8_FULL_CONDENSED)
            .set_header(["", "median", "least", "most"]);
        for name in &self.names {
            let mut values = self.values[name].clone();
            values.sort_by(f64::total_cmp);
            let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
            let row = [median, values[0], values[values.len() - 1]].map(shown);
            table.add_row([name.clone()].into_iter().chain(row));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }
}

/// In milliseconds, of times in order; none of none.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

fn shown(value: f64) -> String {
    match value {
        1000.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
