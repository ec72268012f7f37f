//! A report from events that were kept, and what `check` thinks of it.

use std::path::PathBuf;

use super::*;
use crate::figures::tests::recorded;

/// A directory of a test's own, gone with it.
struct Directory(PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Three runs of two arms, kept.
fn kept() -> Directory {
    let directory = std::env::temp_dir().join(format!("compare-{}", uuid::Uuid::new_v4().simple()));
    let events = directory.join("events");
    std::fs::create_dir_all(&events).unwrap();
    let comparison = serde_json::json!({
        "arms": ["single", "split"], "scenarios": ["closed", "open", "storm", "refusing", "hanging"], "runs": 3,
        "concurrency": 8, "calls": 8, "share": 0.7, "seconds": 2, "outage_seconds": 4,
        "timeout_seconds": 2.0, "build": "dev", "quick": true, "temporal": "none", "cores": 2, "processor": "<one>",
        "memory_mib": 1024, "postgres": "15", "fsync": true,
        "programs": {"single": "0a", "split": "0b"},
        "prices": {"rate": 100.0, "core": 25.0, "gib": 3.5, "gb": 0.12, "busy": 0.5, "copies": 2.0, "days": 30.0},
    });
    std::fs::write(events.join("comparison.json"), comparison.to_string()).unwrap();
    for run in 1..=3 {
        for arm in [Arm::Single, Arm::Split] {
            for scenario in Scenario::ALL {
                let mut recorded = recorded();
                recorded.phase = crate::events::Phase {
                    run,
                    arm,
                    scenario,
                    outage: recorded
                        .phase
                        .outage
                        .filter(|_| matches!(scenario, Scenario::Refusing | Scenario::Hanging)),
                    ..recorded.phase
                };
                // Each run begins one second earlier than the one before, and ends no earlier.
                recorded.phase.window.begin_us -= i64::from(run - 1) * 1_000_000;
                recorded.write(&events).unwrap();
            }
        }
    }
    Directory(directory)
}

#[test]
fn a_report_is_what_its_events_come_to() {
    let kept = kept();
    let report = Report::of(&kept.0, None).unwrap();
    report.write(&kept.0).unwrap();
    Report::check(&kept.0).unwrap();

    // Four receipts in ten, eleven and twelve seconds.
    let rate = report
        .summary
        .spread(Arm::Split, Scenario::Closed, "receipts_per_s")
        .unwrap();
    assert_eq!((rate.median, rate.least, rate.most), (4.0 / 11.0, 4.0 / 12.0, 0.4));
    let page = std::fs::read_to_string(kept.0.join("report.html")).unwrap();
    assert!(
        page.contains("&lt;one&gt;") && page.matches("<svg").count() == 5,
        "{page}"
    );

    // An event more, and it is not any longer.
    let posts = kept.0.join("events/2-split-open/posts.ndjson");
    let text = std::fs::read_to_string(&posts).unwrap();
    std::fs::write(&posts, text.lines().skip(1).collect::<Vec<_>>().join("\n")).unwrap();
    let error = Report::check(&kept.0).unwrap_err().to_string();
    assert!(error.ends_with("is not what its events come to"), "{error}");
}

#[test]
fn what_is_whole_of_an_arm_is_not_made_again() {
    let kept = kept();
    let events = kept.0.join("events");
    let mut comparison: Comparison = events::read_json(&events.join("comparison.json")).unwrap();
    let is_whole = |comparison: &Comparison, run, arm| events::has_whole(&events, comparison, run, arm);
    assert!(is_whole(&comparison, 2, Arm::Split));
    // The file that is written last of a phase.
    std::fs::remove_file(events.join("2-split-hanging/phase.json")).unwrap();
    assert!(!is_whole(&comparison, 2, Arm::Split));
    assert!(is_whole(&comparison, 2, Arm::Single));
    assert!(!is_whole(&comparison, 4, Arm::Single));
    comparison.scenarios = vec![Scenario::Closed, Scenario::Open];
    assert!(is_whole(&comparison, 2, Arm::Split), "nobody asked for an outage");
}

#[test]
fn a_report_of_a_comparison_that_was_ended_says_so() {
    let kept = kept();
    std::fs::remove_file(kept.0.join("events/2-split-hanging/phase.json")).unwrap();
    let report = Report::of(&kept.0, None).unwrap();
    let said = "Not all of it has been made. Of 3 runs there are: single 3, split 2.";
    assert_eq!(report.caveats[0], said);
    assert_eq!(table::readme(&report).lines().next(), Some(said));
}

#[test]
fn a_comparison_with_another_program_or_setting_is_another_one() {
    let kept = kept();
    let begun: Comparison = events::read_json(&kept.0.join("events/comparison.json")).unwrap();
    assert!(begun.differs(&begun).unwrap().is_empty());
    let mut other = begun.clone();
    other.seconds = 3;
    other.programs.insert("split".to_owned(), "0c".to_owned());
    assert_eq!(begun.differs(&other).unwrap(), ["programs", "seconds"]);
}

#[test]
fn an_arm_that_loses_receipts_is_not_chosen() {
    let kept = kept();
    let report = Report::of(&kept.0, None).unwrap();
    // The receipts made by hand hold one that is lost and one that is registered twice.
    assert!(
        !report.verdict.iter().any(|line| line.starts_with("Use ")),
        "{:?}",
        report.verdict
    );
    assert!(
        report
            .verdict
            .iter()
            .any(|line| line.contains("single 1 and 1, split 1 and 1")),
        "{:?}",
        report.verdict
    );
}

#[test]
fn the_table_of_the_readme_has_every_arm() {
    let kept = kept();
    let table = table::readme(&Report::of(&kept.0, None).unwrap());
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "| | `single` | `split` |");
    let rate = lines
        .iter()
        .find(|line| line.starts_with("| receipts a second at most"))
        .unwrap();
    assert_eq!(
        *rate,
        "| receipts a second at most | 0.36 (0.33 to 0.40) | 0.36 (0.33 to 0.40) |"
    );
}
