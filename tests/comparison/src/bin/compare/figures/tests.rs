//! Figures of events made by hand, computed by hand.

use end_to_end::Way;

use super::*;
use crate::arms::Arm;
use crate::events::{Call, Phase, Post, Sample, Scenario, Span, Storage};

/// Milliseconds as microseconds.
fn ms(milliseconds: i64) -> i64 {
    milliseconds * 1000
}

fn post(n: u64, begun: i64, acknowledged: i64) -> Post {
    Post {
        n,
        external_id: format!("r-{n}"),
        begun_us: ms(begun),
        acknowledged_us: Some(ms(acknowledged)),
        repeats: u32::from(n == 2),
    }
}

fn way(n: u64, document: i64, done: i64, registered: u64) -> Way {
    Way {
        reference: format!("m-1/r-{n}"),
        document_us: Some(ms(document)),
        done_us: (done > 0).then_some(ms(done)),
        registered,
    }
}

fn sample(at: i64, process: &str, cpu_ms: u64, mib: u64) -> Sample {
    Sample {
        at_us: ms(at),
        process: process.to_owned(),
        cpu_us: cpu_ms * 1000,
        memory: mib << 20,
        written: cpu_ms * 1000,
    }
}

fn call(at: i64) -> Call {
    Call {
        at_us: ms(at),
        target: "fiscal.register".to_owned(),
    }
}

/// An outage from second 2 to second 6 of ten. Receipt 3 is posted in it, and done two seconds after it; 4 is registered twice; 5
/// never.
pub fn recorded() -> Recorded {
    let span = |begin, end| Span {
        begin_us: ms(begin),
        end_us: ms(end),
    };
    Recorded {
        phase: Phase {
            run: 1,
            arm: Arm::Split,
            scenario: Scenario::Refusing,
            rate: Some(0.5),
            limit: Some(10),
            whole: span(0, 12_000),
            window: span(0, 10_000),
            outage: Some(span(2_000, 6_000)),
            drained: false,
            storage: [
                Storage {
                    wal: 1_000,
                    stored: 500,
                },
                Storage {
                    wal: 9_000,
                    stored: 2_500,
                },
            ],
        },
        posts: vec![
            post(1, 0, 10),
            post(2, 1_000, 1_030),
            post(3, 3_000, 3_020),
            post(4, 7_000, 7_005),
            post(5, 9_000, 9_001),
        ],
        ways: vec![
            way(1, 100, 400, 1),
            way(2, 1_300, 1_900, 1),
            way(3, 3_050, 8_000, 1),
            way(4, 7_200, 7_700, 2),
            way(5, 9_100, 0, 0),
        ],
        calls: vec![call(2_500), call(4_500), call(6_500)],
        samples: vec![
            sample(0, "orchestrator", 100, 20),
            sample(0, "driver", 0, 5),
            sample(5_000, "orchestrator", 150, 30),
            sample(10_000, "orchestrator", 300, 25),
            sample(10_000, "driver", 80, 6),
        ],
    }
}

fn close(figures: &Figures, name: &str, wanted: f64) {
    let found = figures.get(name).unwrap_or_else(|| panic!("no {name} in {figures:?}"));
    assert!((found - wanted).abs() < 1e-9, "{name}: {found}, by hand {wanted}");
}

#[test]
fn the_figures_are_those_computed_by_hand() {
    let figures = of(&recorded());
    for (name, wanted) in [
        // Four done in the ten seconds of the window.
        ("receipts_per_s", 0.4),
        ("posted", 5.0),
        ("posts_repeated", 1.0),
        ("done", 4.0),
        ("registered_twice", 1.0),
        ("lost", 1.0),
        // The third call comes after the outage.
        ("outage.fiscal_calls", 2.0),
        ("outage.fiscal_calls_per_s", 0.5),
        // Receipt 3: 8.0 s; the API is back at 6.0 s.
        ("outage.drain_s", 2.0),
        ("acknowledgement.before.p50_ms", 10.0),
        ("acknowledgement.before.p99_ms", 30.0),
        ("early_stages.before.p50_ms", 100.0),
        ("early_stages.before.max_ms", 300.0),
        ("early_stages.during.p99_ms", 50.0),
        ("early_stages.after.p50_ms", 100.0),
        ("early_stages.after.max_ms", 200.0),
        ("whole_way.before.p50_ms", 400.0),
        ("whole_way.during.max_ms", 5_000.0),
        ("whole_way.after.p99_ms", 700.0),
        // 200 ms for the four that were done between the samples.
        ("cpu_s_per_1000.orchestrator", 50.0),
        ("cpu_s_per_1000.driver", 20.0),
        ("cpu_s_per_1000.system", 50.0),
        ("memory_mib.orchestrator", 30.0),
        ("memory_mib.system", 30.0),
        // The middle is at 6.0 s.
        ("memory_grown_mib.orchestrator", 0.0),
        ("memory_grown_mib.driver", 1.0),
        ("written_bytes_per_receipt.system", 50_000.0),
        ("wal_bytes_per_receipt", 2_000.0),
        ("stored_bytes_per_receipt", 500.0),
    ] {
        close(&figures, name, wanted);
    }
}

#[test]
fn a_backlog_that_is_never_done_has_no_end() {
    let mut recorded = recorded();
    recorded.ways[2].done_us = None;
    assert_eq!(of(&recorded).get("outage.drain_s"), None);
}

#[test]
fn a_timeline_has_every_second() {
    let timeline = timeline(&recorded()).unwrap();
    assert_eq!((timeline.outage_begin, timeline.outage_end), (2.0, 6.0));
    let early = [
        Some(100.0),
        Some(300.0),
        None,
        Some(50.0),
        None,
        None,
        None,
        Some(200.0),
        None,
        Some(100.0),
    ];
    assert_eq!(timeline.early_p99_ms, early);
    assert_eq!(timeline.done, [1, 1, 0, 0, 0, 0, 0, 1, 1]);
}

#[test]
fn medians_are_of_the_runs_and_a_cluster_is_paid_by_them() {
    let run = |cpu: f64| {
        let mut figures = Figures::default();
        figures.set("cpu_s_per_1000.system", cpu);
        figures.set("memory_mib.system", 512.0);
        figures.set("stored_bytes_per_receipt", 1_000.0);
        figures
    };
    let runs = [run(0.5), run(2.0), run(1.0)];
    let summary = summarize(runs.iter().map(|figures| (Arm::Split, Scenario::Open, figures)));
    let spread = summary.spread(Arm::Split, Scenario::Open, "cpu_s_per_1000.system");
    let wanted = Spread {
        median: 1.0,
        least: 0.5,
        most: 2.0,
    };
    assert_eq!(spread, Some(wanted));

    let prices = Prices {
        rate: 100.0,
        core: 10.0,
        gib: 2.0,
        gb: 0.1,
        busy: 0.5,
        copies: 2.0,
        days: 10.0,
    };
    // 0.1 cores of work, half busy, twice; 0.5 GiB twice; 100 a second for ten days, 1 kB each, twice.
    let cost = cost(&summary, Arm::Split, &prices).unwrap();
    let by_hand = [
        (cost.cores, 0.4),
        (cost.gib, 1.0),
        (cost.gb, 172.8),
        (cost.month, 4.0 + 2.0 + 17.28),
    ];
    for (found, wanted) in by_hand {
        assert!((found - wanted).abs() < 1e-9, "{found}, by hand {wanted}");
    }
}
