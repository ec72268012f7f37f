//! What is told at the end: figures, and a sentence for each thing that did not hold.

use std::fmt::{Display, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::samples::Sample;

#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<(String, String)>,
    broken: Vec<String>,
}

impl Report {
    pub fn figure(&mut self, name: impl Into<String>, value: impl Display) {
        self.figures.push((name.into(), value.to_string()));
    }

    /// Notes what was not as it should be, and says it at once: the run may have an hour to go.
    pub fn must(&mut self, held: bool, otherwise: impl FnOnce() -> String) {
        if !held {
            let sentence = otherwise();
            println!("DID NOT HOLD: {sentence}");
            self.broken.push(sentence);
        }
    }

    /// Whether everything held.
    pub fn held(&self) -> bool {
        self.broken.is_empty()
    }

    /// The figures, as a table for a page.
    pub fn table(&self) -> String {
        let mut table = "| | |\n|---|---|\n".to_owned();
        for (name, value) in &self.figures {
            // Writing to a string does not fail.
            let _ = writeln!(table, "| {name} | {value} |");
        }
        table
    }

    /// The sentences.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Writes all of it, and every sample, to `soak-hour.json` beside the profile's directory; answers where that is. If not
    /// everything held, what the processes wrote (in `logs`) is kept beside it too.
    pub fn write(&self, samples: &[Sample], logs: &Path) -> anyhow::Result<PathBuf> {
        let program = std::env::current_exe()?;
        let target = program.ancestors().nth(2).unwrap_or(&program);
        let path = target.join("soak-hour.json");
        let all = json!({"figures": self.figures, "broken": self.broken, "samples": samples});
        std::fs::write(&path, serde_json::to_vec_pretty(&all)?)?;
        if !self.held() {
            let kept = target.join("soak-hour-logs");
            std::fs::create_dir_all(&kept)?;
            for file in std::fs::read_dir(logs)? {
                let file = file?;
                if file.path().extension().is_some_and(|extension| extension == "log") {
                    std::fs::copy(file.path(), kept.join(file.file_name()))?;
                }
            }
        }
        Ok(path)
    }
}

/// Median and 99th percentile (nearest rank), in milliseconds.
pub fn percentiles(times: &[f64]) -> [f64; 2] {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    [50, 99].map(|percent| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).map_or(f64::NAN, |seconds| seconds * 1000.0)
    })
}

/// Whole and tenth seconds.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
