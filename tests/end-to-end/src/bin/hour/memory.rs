//! The memory that processes have resident, as the kernel counts it.

use std::collections::BTreeMap;

use end_to_end::Stack;

/// MiB of each process, by its name.
pub type Memory = BTreeMap<String, u64>;

/// Of a stack's processes, and of RabbitMQ, whose data is in `CHEKHOV_DATA`. PostgreSQL's is its configuration's.
pub fn resident(stack: &Stack) -> Memory {
    let mut pids = vec![("simulator".to_owned(), stack.simulator.pid())];
    for (name, members) in [
        ("orchestrator", &stack.orchestrators),
        ("dispatcher", &stack.dispatchers),
    ] {
        let numbered = members.iter().enumerate();
        pids.extend(numbered.map(|(n, member)| (format!("{name} {n}"), member.process.pid())));
    }
    pids.extend(rabbitmq().map(|pid| ("rabbitmq".to_owned(), pid)));
    pids.into_iter()
        .filter_map(|(name, pid)| Some((name, of(pid)?)))
        .collect()
}

/// The least and the most of the processes whose name begins so.
pub fn range(memory: &Memory, name: &str) -> Option<(u64, u64)> {
    let of = || {
        memory
            .iter()
            .filter(|(known, _)| known.starts_with(name))
            .map(|(_, mib)| *mib)
    };
    Some((of().min()?, of().max()?))
}

fn rabbitmq() -> Option<u32> {
    let data = std::env::var("CHEKHOV_DATA").ok()?;
    let text = std::fs::read_to_string(format!("{data}/run/rabbitmq.pid")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}
