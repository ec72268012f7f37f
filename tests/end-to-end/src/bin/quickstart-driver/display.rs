//! How it goes, live.

use std::io::IsTerminal;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{Progress, list};

/// Bars on a terminal, a line every two seconds elsewhere.
pub(crate) struct Display {
    bars: Option<[ProgressBar; 2]>,
    count: usize,
    shown: Option<Instant>,
}

impl Display {
    pub(crate) fn new(count: usize) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let both = MultiProgress::new();
            let style = ProgressStyle::with_template("{prefix:>10} [{bar:40}] {pos:>5}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ["accepted", "registered"].map(|name| {
                let bar = both.add(ProgressBar::new(u64::try_from(count).unwrap_or(u64::MAX)));
                bar.set_style(style.clone().progress_chars("=> "));
                bar.set_prefix(name);
                bar
            })
        });
        Self {
            bars,
            count,
            shown: None,
        }
    }

    pub(crate) fn show(&mut self, progress: &Progress, begun: Instant) {
        let accepted = list(&progress.accepted).len();
        let registered = progress.registered.load(Ordering::Relaxed);
        let fiscal = if progress.down.load(Ordering::Relaxed) {
            "the fiscal API is DOWN"
        } else {
            "the fiscal API is up"
        };
        if let Some([first, second]) = &self.bars {
            first.set_position(u64::try_from(accepted).unwrap_or(u64::MAX));
            second.set_position(u64::try_from(registered).unwrap_or(u64::MAX));
            second.set_message(fiscal);
        } else if self.shown.is_none_or(|shown| shown.elapsed() >= Duration::from_secs(2)) {
            self.shown = Some(Instant::now());
            let (seconds, count) = (begun.elapsed().as_secs(), self.count);
            println!("{seconds:>4} s  accepted {accepted:>4}/{count}, registered {registered:>4}, {fiscal}");
        }
    }

    pub(crate) fn end(&mut self) {
        for bar in self.bars.iter().flatten() {
            bar.finish();
        }
    }
}
