//! Whether a receipt costs the same however many are in the tables: two databases, few in one and very many in the other, in turn.

use std::sync::Arc;

use clap::Parser;
use end_to_end::{Options, Processes, Receipts, Stack};

use crate::loaded;
use crate::pairs::{Figures, Stored};

#[derive(Debug, Parser)]
pub struct Size {
    /// Finished receipts in the tables of the one
    #[arg(long, default_value_t = 10_000)]
    few: u64,
    /// and of the other
    #[arg(long, default_value_t = 1_000_000)]
    many: u64,
    /// Pairs of a run with few and one with many
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Receipts of each run
    #[arg(long, default_value_t = 10_000)]
    receipts: usize,
    /// Receipts under way at once
    #[arg(long, default_value_t = 512)]
    concurrency: usize,
}

/// Runs the pairs, in turn one and the other first, and prints the figures of both and their ratios.
pub async fn run(options: &Options, template: &str, arguments: &Size) -> anyhow::Result<()> {
    let sizes = [arguments.few, arguments.many];
    let stacks = [filled(options, sizes[0]).await?, filled(options, sizes[1]).await?];
    for stack in &stacks {
        measure(stack, template, arguments, &mut Figures::default()).await?;
    }
    let (mut figures, mut ratios) = ([Figures::default(), Figures::default()], Figures::default());
    for pair in 0..arguments.pairs as usize {
        for turn in [pair % 2, 1 - pair % 2] {
            measure(&stacks[turn], template, arguments, &mut figures[turn]).await?;
        }
        let [few, many] = &figures;
        for name in few.names() {
            ratios.add(name.to_owned(), many.last(name) / few.last(name));
        }
    }
    for (size, figures) in sizes.iter().zip(&figures) {
        println!("{size} receipts in the tables:\n{}", figures.table());
    }
    println!("ratios, {} to {}:\n{}", sizes[1], sizes[0], ratios.table());
    Ok(())
}

async fn filled(options: &Options, size: u64) -> anyhow::Result<Stack> {
    let stack = Stack::start(options).await?;
    stack.ledger.set(&serde_json::json!({"done_after_ms": 0})).await?;
    fill(&stack, size)?;
    Ok(stack)
}

async fn measure(stack: &Stack, template: &str, arguments: &Size, figures: &mut Figures) -> anyhow::Result<()> {
    stack.ledger.forget().await?;
    // A run does not pay for what the one before it has written.
    stack.database.sql("checkpoint")?;
    let processes = Processes::of(stack)?;
    let receipts = Arc::new(Receipts::new(template)?);
    let before = (processes.cpu()?, Stored::of(stack)?);
    let took = loaded::run(stack, &receipts, arguments.receipts, arguments.concurrency)?;
    let after = (processes.cpu()?, Stored::of(stack)?);
    figures.costs(arguments.receipts, &before, &after);
    figures.times(took.times(stack).await?);
    Ok(())
}

/// Receipts as they are when they are registered: their rows in every table, spread over the last hour.
fn fill(stack: &Stack, size: u64) -> anyhow::Result<()> {
    stack.database.sql(&format!(
        "create temporary table numbers as
         select n, overlay(uuid_from(now() - interval '1 hour' + n * interval '1 hour' / {size})::text
                           placing substr(md5(n::text)::uuid::text, 15) from 15 for 22)::uuid as id
         from generate_series(1, {size}) n;
         insert into receipts (id, merchant, external_id, pipeline, content, traceparent)
         select id, 'm-1', 'filled-' || n, 'bench', json_build_object('filler', repeat('x', 600)), '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00'
         from numbers;
         insert into receipt_keys select 'm-1', 'filled-' || n, id, sha256(n::text::bytea) from numbers;
         insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, registers, registered, result)
         select gen_random_uuid(), id, stage, 'send', 1, md5(n::text) || md5(stage), now() - interval '1 hour', 3, 'success', 200, false, false, '{{\"rules\": {{\"ok\": true}}}}'
         from numbers, unnest(array['validate', 'calculate', 'document', 'register', 'confirm']) stage;
         insert into sends (receipt, call_id, method, path, headers, body)
         select id, md5(n::text), 'POST', '/v4/main-1/sell', '[]', repeat('x', 1000)::bytea from numbers;
         insert into finished (id, state, epoch, stage) select id, 'registered', 4, 'confirm' from numbers"
    ))?;
    stack.database.sql("vacuum analyze").map(drop)
}
