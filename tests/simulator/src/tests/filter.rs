//! `register.jq` makes what the API accepts.

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::{Val, read};

use super::*;

const FILTER: &str = include_str!("../../../../deploy/pipeline/register.jq");

fn run(input: &Value) -> Result<Value, String> {
    let funs = jaq_core::funs().chain(jaq_std::base_funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(jaq_core::defs())
        .load(&arena, File { code: FILTER, path: () })
        .expect("it parses");
    let filter = Compiler::default()
        .with_funs(funs)
        .compile(modules)
        .expect("it compiles");
    let input = read::parse_single(input.to_string().as_bytes()).expect("JSON");
    let mut outputs = filter
        .id
        .run((Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([])), input));
    let output = outputs
        .next()
        .map(unwrap_valr)
        .expect("an output")
        .map_err(|error| error.to_string())?;
    assert!(outputs.next().is_none(), "one output");
    Ok(serde_json::from_str(&output.to_string()).expect("JSON"))
}

#[tokio::test]
async fn the_filter_makes_what_is_accepted() {
    let running = Running::start().await;
    let envelope = json!({"receipt": receipt(), "results": {}});
    let (_, tax) = answer(
        running
            .request(Method::POST, "/tax/calculate")
            .body(envelope.to_string()),
    )
    .await;
    let input = json!({"receipt": receipt(), "results": {"calculate": {"tax": tax}}, "call": {"id": "c-1"}});
    let made = run(&input).unwrap();
    assert_eq!(made["reference"], "m-042/order 1/ч");
    assert_eq!(made["timestamp"], "23.11.2026 12:00:00");
    assert_eq!(made["receipt"]["client"], json!({"email": "a@example.org"}));
    assert_eq!(
        made["receipt"]["items"][0]["supplier_info"],
        json!({"inn": "391417776386", "name": "Seller"})
    );
    let (status, registered) = answer(running.register(&made)).await;
    assert_eq!(status, 200, "{registered}");
    // All calls are one receipt's.
    let (_, receipt) = running.get("/ledger/m-042/order%201%2F%D1%87").await;
    assert_eq!(receipt["calls"].as_array().unwrap().len(), 2);
}

#[test]
fn without_the_tax_there_is_no_body() {
    assert!(run(&json!({"receipt": receipt(), "results": {}, "call": {"id": "c-1"}})).is_err());
}
