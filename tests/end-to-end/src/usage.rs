//! What processes use, as the kernel counts it: CPU time, memory and what they write.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context;

use crate::member::Member;
use crate::stack::Stack;

/// Ticks a second in `/proc/<pid>/stat`, on every Linux that Rust runs on.
const TICKS: u64 = 100;

/// The processes of a run, by what they are called in the table. A server's children belong to it.
#[derive(Debug)]
pub struct Processes(Vec<(&'static str, u32)>);

/// CPU time used so far, by process.
pub type Cpu = BTreeMap<&'static str, Duration>;

/// What one of them has used so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// What it is called.
    pub process: &'static str,
    /// CPU time, its children's included.
    pub cpu: Duration,
    /// Resident now, in bytes: what is its own and its children's, and once what they share.
    pub memory: u64,
    /// What it and its children caused to be written to disks, in bytes; 0 where the kernel does not tell.
    pub written: u64,
}

/// The id of a server whose data is in `CHEKHOV_DATA`.
///
/// # Errors
/// When it does not run, or nobody says where its data is.
pub fn server(name: &str) -> anyhow::Result<u32> {
    let data = std::env::var("CHEKHOV_DATA").context("CHEKHOV_DATA is not set: the scripts in tests/ set it")?;
    let path = format!("{data}/run/{name}.pid");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    text.split(' ').next().unwrap_or_default().parse().context(path)
}

impl Processes {
    /// Those of a stack, of the servers whose data is in `CHEKHOV_DATA`, and this one.
    ///
    /// # Errors
    /// When a server does not run.
    pub fn of(stack: &Stack) -> anyhow::Result<Self> {
        let first = |members: &[Member]| members.first().map(|member| member.process.pid());
        let mut processes = vec![
            ("postgres", server("postgres")?),
            ("rabbitmq", server("rabbitmq")?),
            ("simulator", stack.simulator.pid()),
            ("driver", std::process::id()),
        ];
        processes.extend(first(&stack.orchestrators).map(|pid| ("orchestrator", pid)));
        processes.extend(first(&stack.dispatchers).map(|pid| ("dispatcher", pid)));
        Ok(Self(processes))
    }

    /// Any processes, by what they are called. `driver` is this one: its children are not part of it.
    #[must_use]
    pub fn named(processes: Vec<(&'static str, u32)>) -> Self {
        Self(processes)
    }

    /// What each has used so far; those that are gone are left out.
    ///
    /// # Errors
    /// When processes cannot be listed.
    pub fn used(&self) -> anyhow::Result<Vec<Used>> {
        let children = children()?;
        let used = self.0.iter().filter_map(|(process, pid)| {
            let mut all = vec![*pid];
            if *process != "driver" {
                all.extend(descendants(*pid, &children));
            }
            // Gone itself: then so are its children.
            ticks(*pid).ok()?;
            let ticks: u64 = all.iter().filter_map(|pid| ticks(*pid).ok()).sum();
            Some(Used {
                process,
                cpu: Duration::from_millis(ticks * 1000 / TICKS),
                memory: resident(&all),
                written: all.iter().filter_map(|pid| field(*pid, "io", "write_bytes:")).sum(),
            })
        });
        Ok(used.collect())
    }

    /// CPU time of each so far, its children's included.
    ///
    /// # Errors
    /// When one is gone.
    pub fn cpu(&self) -> anyhow::Result<Cpu> {
        let children = children()?;
        let mut used = Cpu::new();
        for (name, pid) in &self.0 {
            let mut ticks = ticks(*pid)?;
            if *name != "driver" {
                // A child that ended between the listing and here is counted by its parent from then on.
                ticks += descendants(*pid, &children)
                    .iter()
                    .filter_map(|pid| self::ticks(*pid).ok())
                    .sum::<u64>();
            }
            used.insert(name, Duration::from_millis(ticks * 1000 / TICKS));
        }
        Ok(used)
    }

    /// CPU time of one of ours.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_of(&self, name: &str) -> anyhow::Result<Duration> {
        Ok(Duration::from_millis(ticks(self.pid(name)?)? * 1000 / TICKS))
    }

    /// The memory that one of ours has resident, in MiB.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_of(&self, name: &str) -> anyhow::Result<u64> {
        let kib = field(self.pid(name)?, "status", "VmRSS:").with_context(|| format!("no memory of {name}"))?;
        Ok(kib / 1024)
    }

    fn pid(&self, name: &str) -> anyhow::Result<u32> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, pid)| *pid).with_context(|| format!("no process {name}"))
    }

    /// The most memory each has had resident so far, in MiB; a server's children at this moment, each its proportional share.
    ///
    /// # Errors
    /// When one is gone.
    pub fn memory(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        let children = children()?;
        let mut used = BTreeMap::new();
        for (name, pid) in &self.0 {
            let kib = if *name == "postgres" {
                let all = descendants(*pid, &children);
                all.iter().filter_map(|pid| field(*pid, "smaps_rollup", "Pss:")).sum()
            } else {
                field(*pid, "status", "VmHWM:").with_context(|| format!("no memory of {name}"))?
            };
            used.insert(*name, kib / 1024);
        }
        Ok(used)
    }
}

/// What processes of one family have resident: memory of their own added up, files and shared memory as the one with most of
/// them has it.
fn resident(pids: &[u32]) -> u64 {
    let own = pids.iter().filter_map(|pid| field(*pid, "status", "RssAnon:"));
    let shared = ["RssFile:", "RssShmem:"].map(|kind| {
        let of_each = pids.iter().filter_map(|pid| field(*pid, "status", kind));
        of_each.max().unwrap_or_default()
    });
    (own.sum::<u64>() + shared.iter().sum::<u64>()) * 1024
}

fn field(pid: u32, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User and system time, with that of children that have ended.
fn ticks(pid: u32) -> anyhow::Result<u64> {
    let fields = stat(pid)?;
    // Fields 14 to 17 of proc(5): utime, stime, cutime, cstime; the first here is field 3.
    let times = fields.get(11..=14).context("a short stat")?;
    times.iter().map(|field| Ok(field.parse::<u64>()?)).sum()
}

fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("no name in stat")?;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// Every process's children.
fn children() -> anyhow::Result<BTreeMap<u32, Vec<u32>>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(fields) = stat(pid)
            && let Some(parent) = fields.get(1).and_then(|parent| parent.parse().ok())
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    Ok(children)
}

fn descendants(pid: u32, children: &BTreeMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = vec![pid];
    while let Some(pid) = next.pop() {
        for child in children.get(&pid).into_iter().flatten() {
            found.push(*child);
            next.push(*child);
        }
    }
    found
}
