//! What a receipt costs: CPU time and memory of each process, and what is written and kept.

use std::collections::BTreeMap;

use super::outcome::done_in;
use super::{Figures, count, float};
use crate::events::{Recorded, Sample, Span};

/// Those that are no part of any arm.
const APART: [&str; 2] = ["driver", "simulator"];
const MIB: f64 = 1_048_576.0;

pub(super) fn add(figures: &mut Figures, recorded: &Recorded) {
    let phase = &recorded.phase;
    // An outage is paid for until all of it is drained; otherwise what counts is the window.
    let counted = if phase.outage.is_some() {
        phase.whole
    } else {
        phase.window
    };
    let mut by_process: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in &recorded.samples {
        by_process.entry(&sample.process).or_default().push(sample);
    }
    let (mut cpu, mut memory, mut written) = (None, 0.0, None);
    for (process, samples) in by_process {
        let is_ours = !APART.contains(&process);
        let peak = samples.iter().map(|sample| sample.memory).max().map_or(0.0, float) / MIB;
        figures.set(format!("memory_mib.{process}"), peak);
        if is_ours {
            memory += peak;
        }
        if let Some(grown) = grown(&samples, counted) {
            figures.set(format!("memory_grown_mib.{process}"), grown / MIB);
        }
        let Some((span, first, last)) = ends(&samples, counted) else {
            continue;
        };
        let done = count(done_in(recorded, span));
        if done > 0.0 {
            let each = float(last.cpu_us.saturating_sub(first.cpu_us)) / 1e6 / done * 1000.0;
            figures.set(format!("cpu_s_per_1000.{process}"), each);
            // A child that has ended takes its count of written bytes with it.
            let bytes = float(last.written.saturating_sub(first.written)) / done;
            figures.set(format!("written_bytes_per_receipt.{process}"), bytes);
            if is_ours {
                *cpu.get_or_insert(0.0) += each;
                *written.get_or_insert(0.0) += bytes;
            }
        }
    }
    figures.set("memory_mib.system", memory);
    for (name, sum) in [
        ("cpu_s_per_1000.system", cpu),
        ("written_bytes_per_receipt.system", written),
    ] {
        if let Some(sum) = sum {
            figures.set(name, sum);
        }
    }
    let done = count(done_in(recorded, phase.whole));
    if phase.arm.is_durable() && done > 0.0 {
        let [begin, end] = phase.storage;
        figures.set("wal_bytes_per_receipt", float(end.wal.saturating_sub(begin.wal)) / done);
        let stored = float(end.stored.saturating_sub(begin.stored)) / done;
        figures.set("stored_bytes_per_receipt", stored);
    }
}

/// How much more memory it had on average in the second half of a stretch of time than in the first, in bytes.
fn grown(samples: &[&Sample], span: Span) -> Option<f64> {
    let middle = i64::midpoint(span.begin_us, span.end_us);
    let mean = |begin_us, end_us| {
        let half = Span { begin_us, end_us };
        let within = samples.iter().filter(|sample| half.has(sample.at_us));
        let memory: Vec<f64> = within.map(|sample| float(sample.memory)).collect();
        (!memory.is_empty()).then(|| memory.iter().sum::<f64>() / count(memory.len()))
    };
    Some(mean(middle, span.end_us)? - mean(span.begin_us, middle)?)
}

/// The first and the last sample of a stretch of time, and the stretch between them.
fn ends<'a>(samples: &[&'a Sample], span: Span) -> Option<(Span, &'a Sample, &'a Sample)> {
    let mut within = samples.iter().filter(|sample| span.has(sample.at_us));
    let first = within.next()?;
    let last = within.next_back()?;
    let between = Span {
        begin_us: first.at_us,
        end_us: last.at_us,
    };
    Some((between, first, last))
}
