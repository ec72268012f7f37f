//! Whether a receipt costs the same however many are in the tables.

use std::sync::Arc;

use end_to_end::{Processes, Receipts, Stack};

use crate::loaded;
use crate::pairs::{Figures, Stored};

/// Runs at each size, and receipts of each.
const RUNS: usize = 3;
const RECEIPTS: usize = 5_000;

/// Measures with each of `sizes` finished receipts in the tables, the smallest first.
pub async fn run(stack: &Stack, template: &str, sizes: &[u64]) -> anyhow::Result<()> {
    let processes = Processes::of(stack)?;
    let width = 512;
    loaded::run(stack, &Arc::new(Receipts::new(template)?), RECEIPTS, width).await?;
    let mut filled = 0;
    for size in sizes {
        fill(stack, filled, *size)?;
        filled = *size;
        let mut figures = Figures::default();
        for _ in 0..RUNS {
            stack.ledger.forget().await?;
            let receipts = Arc::new(Receipts::new(template)?);
            let before = (processes.cpu()?, Stored::of(stack)?);
            let took = loaded::run(stack, &receipts, RECEIPTS, width).await?;
            let after = (processes.cpu()?, Stored::of(stack)?);
            figures.costs(RECEIPTS, &before, &after);
            figures.times(took);
        }
        println!("{size} receipts in the tables:\n{}", figures.table());
    }
    Ok(())
}

/// Receipts as they are when they are registered: their rows in every table, spread over the last hour.
fn fill(stack: &Stack, from: u64, to: u64) -> anyhow::Result<()> {
    stack.database.sql(&format!(
        "create temporary table numbers as
         select n, overlay(uuid_from(now() - interval '1 hour' + n * interval '1 hour' / {to})::text
                           placing substr(md5(n::text)::uuid::text, 15) from 15 for 22)::uuid as id
         from generate_series({from} + 1, {to}) n;
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
