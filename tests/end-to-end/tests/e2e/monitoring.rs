//! What is watched is there: no panel and no rule asks for what nobody measures, and every metric is documented.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use end_to_end::{
    Invariants, Member, Prometheus, Stack, eventually, monitoring, promtool, rabbitmq_metrics, selectors,
};
use serde_json::{Value, json};
use shared::telemetry::described::{METRICS, Of};

use super::{all_registered, quick, receipts};

const LIMIT: Duration = Duration::from_mins(1);
/// How long until every query has found something.
const FOUND: Duration = Duration::from_secs(50);

/// The queries of the dashboards, as Grafana would send them.
fn panels() -> BTreeMap<String, String> {
    let mut queries = BTreeMap::new();
    for file in std::fs::read_dir(monitoring().join("dashboards")).unwrap() {
        let path = file.unwrap().path();
        let board: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let name = format!("{}: {} {}", board["title"], panel["title"], target["refId"]);
                let query = target["expr"].as_str().unwrap();
                let query = query.replace("$__rate_interval", "1m");
                queries.insert(name, query.replace("$destination", ".*").replace("$queue", ".*"));
            }
        }
    }
    assert!(queries.len() > 40, "{} queries", queries.len());
    queries
}

/// Every query that has to find something: those of panels and of recorded series whole, and of every rule what it selects.
fn queries(rules: &[Value]) -> BTreeMap<String, String> {
    let mut queries = panels();
    for rule in rules {
        let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        if rule["type"] == "recording" {
            queries.insert(name.to_owned(), query.to_owned());
        }
        for selector in selectors(query) {
            queries.insert(format!("{name}: {selector}"), selector);
        }
    }
    queries
}

async fn unfound(prometheus: &Prometheus) -> BTreeMap<String, String> {
    let mut unfound = queries(&prometheus.rules().await.unwrap());
    let all: Vec<_> = unfound
        .iter()
        .map(|(name, query)| (name.clone(), query.clone()))
        .collect();
    for (name, query) in all {
        if prometheus.found(&query).await.unwrap() > 0 {
            unfound.remove(&name);
        }
    }
    unfound
}

/// What a process measures is what is documented of it, with those labels, and all of that.
async fn is_as_described(member: &Member, of: Of) {
    let text = member.all_measured().await.unwrap();
    let mut measured: BTreeMap<&str, (&str, BTreeSet<&str>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            measured.insert(name, (kind, BTreeSet::new()));
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = line.split_once('{') else {
            continue;
        };
        let bare = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        let of_it = bare.filter(|bare| measured.contains_key(bare)).unwrap_or(name);
        let keys = labels
            .split("=\"")
            .filter_map(|part| part.rsplit(['"', ',', '{']).next());
        let keys = keys.filter(|key| *key != "le" && !key.starts_with('}'));
        measured.get_mut(of_it).unwrap().1.extend(keys);
    }
    let described: BTreeMap<&str, (&str, BTreeSet<&str>)> = METRICS
        .iter()
        .filter(|metric| metric.of == of || metric.of == Of::Both)
        .map(|metric| {
            (
                metric.name,
                (metric.kind.name(), metric.labels.iter().copied().collect()),
            )
        })
        .collect();
    assert_eq!(measured, described);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_every_rule_finds_its_series_on_a_running_system() {
    promtool(&["check", "config", "prometheus.yml"]).unwrap();
    promtool(&["test", "rules", "rules.test.yml"]).unwrap();
    let mut stack = Stack::start(&quick().with("destination.fiscal.limits", "50/s"))
        .await
        .unwrap();
    let prometheus = Prometheus::start(&stack, &rabbitmq_metrics()).await.unwrap();
    eventually(LIMIT, "all are looked at", async || {
        prometheus.found("up == 1").await.unwrap() == 4
    })
    .await;
    let failing = json!({"tax": {"mode": "error", "status": 503, "share": 0.3, "for_s": 2}});
    stack.ledger.set_faults(&failing).await.unwrap();
    stack.post_all(&receipts(30)).await.unwrap();
    stack.settled(LIMIT).await;
    all_registered(&stack).await;
    let looked = eventually(LIMIT, "every query finds something", async || {
        unfound(&prometheus).await.is_empty()
    });
    let looked = tokio::time::timeout(FOUND, looked).await;
    assert!(looked.is_ok(), "nothing is found for {:#?}", unfound(&prometheus).await);
    is_as_described(&stack.orchestrators[0], Of::Orchestrator).await;
    is_as_described(&stack.dispatchers[0], Of::Dispatcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_counted_by_what_it_waits_for_and_drains_at_the_limit() {
    let mut stack = Stack::start(&quick().with("destination.fiscal.limits", "50/s"))
        .await
        .unwrap();
    let invariants = Invariants::watch(&stack.database);
    let api = stack.orchestrators[0].api.clone();
    let backlog = async || api.call(&["v1", "destinations", "fiscal"]).await.unwrap().body["backlog"].clone();
    assert_eq!(
        api.change("fiscal", &json!({"state": "paused"})).await.unwrap().status,
        200
    );
    stack.post_all(&receipts(20)).await.unwrap();
    eventually(LIMIT, "all have come as far as they can", async || {
        backlog().await["turn"] == 20
    })
    .await;
    let shown = backlog().await;
    let counts =
        ["internal", "timer", "original", "parked", "unresolved", "due"].map(|kind| shown[kind].as_i64().unwrap());
    assert_eq!(counts, [0, 0, 0, 0, 0, 20], "{shown}");
    assert_eq!(
        (shown["drain_s"].as_f64(), shown["rate"].as_f64()),
        (Some(0.4), Some(0.0)),
        "{shown}"
    );
    assert!(shown["oldest_s"]["turn"].as_f64().is_some(), "{shown}");
    let gauge = r#"chekhov_receipts{state="waiting",kind="turn",stage="register",destination="fiscal"}"#;
    eventually(LIMIT, "it is measured", async || {
        stack.orchestrators[0].measured(gauge).await.unwrap() == Some(20.0)
    })
    .await;
    assert_eq!(
        api.change("fiscal", &json!({"state": "open"})).await.unwrap().status,
        200
    );
    stack.settled(LIMIT).await;
    all_registered(&stack).await;
    let shown = backlog().await;
    assert_eq!(
        (&shown["turn"], &shown["timer"], shown["drain_s"].as_f64()),
        (&json!(0), &json!(0), Some(0.0))
    );
    assert!(shown["rate"].as_f64().unwrap() > 0.0, "{shown}");
    eventually(LIMIT, "it is measured that nothing waits", async || {
        stack.orchestrators[0].measured(gauge).await.unwrap() == Some(0.0)
    })
    .await;
    invariants.hold().await;
}
