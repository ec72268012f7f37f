//! The shipped pipeline, and what is said of a broken one.

use super::*;
use crate::pipeline::Unknown;

fn source(toml: &str) -> Source {
    let body = include_str!("../../../../deploy/pipeline/register.jq").to_owned();
    Source {
        toml: toml.to_owned(),
        files: [("register.jq".to_owned(), body)].into(),
        unread: [].into(),
    }
}

const SHIPPED: &str = include_str!("../../../../deploy/pipeline/receipts.toml");

#[test]
fn the_shipped_pipeline_compiles() {
    let pipeline = Pipeline::compile(source(SHIPPED)).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(pipeline.stages.len(), 8);
    let register = pipeline.stages[5].registers().unwrap();
    assert!(!register.success_registers(), "confirm says when it is registered");
    assert_eq!(
        pipeline.stages[5].target,
        Target::External {
            destination: "fiscal".to_owned()
        }
    );
    assert_eq!(pipeline.version, Pipeline::compile(source(SHIPPED)).unwrap().version);
}

#[test]
fn a_mistake_is_named_with_its_place() {
    let mistakes = [
        ("post = \"/validate\"", "post = \"validate\"", "validate.rules.post:"),
        ("service = \"tax\"", "servise = \"tax\"", "calculate.tax.servise:"),
        (
            "service = \"tax\"",
            "service = \"tax\"\ndestination = \"fiscal\"",
            "calculate.tax:",
        ),
        (
            "'.body.status == \"wait\"'",
            "'.body.status =='",
            "confirm.report.on[0].if:",
        ),
        ("then = \"poll\"", "then = \"pol\"", "confirm.report.on[0].then:"),
        (
            "stage = \"register\"",
            "stage = \"fetch\"",
            "confirm.report.on[4].stage:",
        ),
        ("first = \"2s\"", "first = \"soon\"", "confirm.report.poll.first:"),
        (
            "\"document\", \"register\"",
            "\"document\", \"document\", \"register\"",
            "stages[5]:",
        ),
        ("[number.reserve]", "[numbers.reserve]", "numbers:"),
        (
            "{.receipt.merchant.group}/{.vars.operation}",
            "{.merchant}",
            "register.send.post:",
        ),
        (
            "body_file = \"register.jq\"",
            "body_file = \"other.jq\"",
            "register.send.body_file:",
        ),
        ("save = '.body.payload'", "save = 'now'", "confirm.report.save:"),
        (
            "service = \"documents\"",
            "destination = \"fiscal\"\nfor_each = '[]'",
            "document.store.for_each:",
        ),
        ("name = \"receipts\"", "name = \"Receipts!\"", "name:"),
        ("factor = 2      ", "factor = 0      ", "retry.factor:"),
        ("factor = 2      ", "repeats = 0\nfactor = 2 ", "retry.repeats:"),
        ("name = \"receipts\"", "name = \"receipts\"\nlate = \"never\"", "late:"),
    ];
    for (right, wrong, place) in mistakes {
        assert!(SHIPPED.contains(right), "{right}");
        let Err(Mistakes(found)) = Pipeline::compile(source(&SHIPPED.replacen(right, wrong, 1))) else {
            panic!("{wrong} compiled")
        };
        assert!(
            found.iter().any(|mistake| mistake.starts_with(place)),
            "{wrong}: {found:?}"
        );
    }
}

#[test]
fn what_is_said_of_unknown_outcomes_is_checked() {
    let send = "save = '{uuid: .body.uuid}'\n";
    let find = "[register.send.lookup]\nget = \"/{.call.id}\"\n";
    let absent = "on = [{status = 404, then = \"absent\"}]\n";
    let with = |added: &str| SHIPPED.replacen("[confirm.report]", &format!("{added}[confirm.report]"), 1);
    let compiled = Pipeline::compile(source(&with(&format!("{find}{absent}settle = \"2m\"\n")))).unwrap();
    let Unknown::Lookup(lookup) = &compiled.stages[5].registers().unwrap().unknown else {
        panic!("no look-up")
    };
    assert_eq!(lookup.settle.as_secs(), 120);
    assert_eq!(lookup.request.effect, Effect::Read);
    let said = |added: &str| SHIPPED.replacen(send, &format!("{send}{added}\n"), 1);
    for (text, place) in [
        (with(find), "register.send.lookup.on: a rule"),
        (
            with(&format!("{find}{absent}when = 'true'\n")),
            "register.send.lookup.when:",
        ),
        (
            with(&format!("{find}{absent}settle = \"soon\"\n")),
            "register.send.lookup.settle:",
        ),
        (said("unknown = \"lookup\""), "register.send.lookup: the request"),
        (said("unknown = \"never\""), "register.send.unknown:"),
        (said("unknown = \"manual\"\nwindow = \"1h\""), "register.send.window:"),
        (
            SHIPPED.replacen("then = \"poll\"", "then = \"absent\"", 1),
            "confirm.report.on: only a look-up",
        ),
        (
            SHIPPED.replacen("put = \"/numbers", "unknown = \"resend\"\nput = \"/numbers", 1),
            "number.reserve.unknown:",
        ),
    ] {
        let Err(Mistakes(found)) = Pipeline::compile(source(&text)) else {
            panic!("{place} compiled")
        };
        assert!(
            found.iter().any(|mistake| mistake.starts_with(place)),
            "{place} {found:?}"
        );
    }
}

#[test]
fn a_target_that_is_not_configured_is_named() {
    let pipeline = Pipeline::compile(source(SHIPPED)).unwrap();
    let services = ["validation", "catalog", "sellers", "tax", "numbers"]
        .map(str::to_owned)
        .into();
    let mistakes = pipeline
        .check_targets(&services, &["fiscal".to_owned()].into())
        .unwrap_err();
    assert_eq!(
        mistakes.0,
        ["document.store: the configuration has no [service.documents]"]
    );
}

#[test]
fn a_stage_without_requests_is_a_mistake_and_never_skipped() {
    let text = "name = \"x\"\nstages = [\"a\", \"b\"]\n[a]\nwhen = 'true'\n[a.retry]\nfirst = \"1s\"\n[b]\n";
    let Err(Mistakes(found)) = Pipeline::compile(source(text)) else {
        panic!("it compiled")
    };
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a: a stage needs a request") && found[1].starts_with("b: "));
}
