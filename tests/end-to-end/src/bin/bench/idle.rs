//! What a process costs that has nothing to do.

use std::time::Duration;

use anyhow::ensure;
use end_to_end::{Database, Processes, Stack};

/// How long it is left alone before it is measured, and how long it is measured.
const SETTLING: Duration = Duration::from_secs(25);
const MEASURED: Duration = Duration::from_secs(30);

/// Measures each of the two alone: the other one is stopped meanwhile.
pub async fn run(stack: &mut Stack) -> anyhow::Result<()> {
    let directory = stack.directory().to_path_buf();
    let limit = Duration::from_secs(30);
    ensure!(
        stack.dispatchers[0].process.terminate(limit).await?.success(),
        "the dispatcher failed"
    );
    let processes = Processes::of(stack)?;
    alone("orchestrator", &processes, &stack.database).await?;
    stack.dispatchers[0].restart(&directory).await?;
    ensure!(
        stack.orchestrators[0].process.terminate(limit).await?.success(),
        "the orchestrator failed"
    );
    let processes = Processes::of(stack)?;
    alone("dispatcher", &processes, &stack.database).await
}

async fn alone(name: &str, processes: &Processes, database: &Database) -> anyhow::Result<()> {
    tokio::time::sleep(SETTLING).await;
    let before = (processes.cpu_of(name)?, transactions(database)?);
    tokio::time::sleep(MEASURED).await;
    let cpu = processes.cpu_of(name)?.saturating_sub(before.0);
    let transactions = transactions(database)? - before.1;
    println!(
        "{name}, idle: {:.2} % of a core, {:.2} transactions/s, {} MiB resident",
        cpu.as_secs_f64() * 100.0 / MEASURED.as_secs_f64(),
        transactions / MEASURED.as_secs_f64(),
        processes.resident_of(name)?
    );
    Ok(())
}

/// Of the whole database so far; every statement of an idle process is one of its own. Each backend adds what it did when it
/// has been idle for a second or when it does something again; this look is one itself.
fn transactions(database: &Database) -> anyhow::Result<f64> {
    let count = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
    Ok(database.sql(count)?.parse()?)
}
