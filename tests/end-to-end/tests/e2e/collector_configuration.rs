//! The shipped configuration of an OpenTelemetry Collector: read, and its pipelines name what is there.

use std::path::Path;

use serde_json::Value;

#[test]
fn its_pipelines_are_made_of_what_it_defines() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/telemetry/collector.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    let configuration: Value = serde_saphyr::from_str(&text).unwrap();
    let names = |value: &Value| -> Vec<String> {
        let names = value.as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let service = &configuration["service"];
    for name in names(&service["extensions"]) {
        assert!(configuration["extensions"][&name].is_object(), "{name}");
    }
    let pipelines = service["pipelines"].as_object().unwrap();
    assert!(pipelines.contains_key("traces"));
    let mut used = Vec::new();
    for (pipeline, parts) in pipelines {
        for kind in ["receivers", "processors", "exporters"] {
            for name in names(&parts[kind]) {
                assert!(configuration[kind][&name].is_object(), "{pipeline}: {kind}: {name}");
                used.push((kind, name));
            }
        }
    }
    for kind in ["receivers", "processors", "exporters"] {
        for name in configuration[kind].as_object().unwrap().keys() {
            assert!(used.contains(&(kind, name.clone())), "{kind}: {name} is in no pipeline");
        }
    }
    // Memory is looked after first, and spans are put together last.
    let processors = names(&pipelines["traces"]["processors"]);
    assert_eq!(processors, ["memory_limiter", "tail_sampling", "batch"]);
    let policies = configuration["processors"]["tail_sampling"]["policies"]
        .as_array()
        .unwrap();
    let kinds: Vec<_> = policies.iter().map(|policy| policy["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["status_code", "latency", "string_attribute", "probabilistic"]);
    for policy in policies {
        assert!(policy[policy["type"].as_str().unwrap()].is_object(), "{policy}");
    }
}
