use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};

use super::*;
use crate::pipeline::filter::Filter;
use crate::pipeline::json::write;
use crate::pipeline::reader::read;

/// What jaq alone makes of it.
fn by_jaq(filter: &str, input: &str) -> Option<String> {
    let arena = Arena::default();
    let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let file = File { code: filter, path: () };
    let modules = Loader::new(defs).load(&arena, file).ok()?;
    let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let filter = Compiler::default().with_funs(funs).compile(modules).ok()?;
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut outputs = filter.id.run((context, read(input).unwrap())).map(unwrap_valr);
    let (first, second) = (outputs.next()?, outputs.next());
    write(&first.ok().filter(|_| second.is_none())?).ok()
}

#[test]
fn what_is_plain_means_what_it_means_in_jq() {
    let filters = [
        "{a, \"b c\": .a.b, c: {d: .a}}",
        ".a as $x | {$x, y: $x.b, z: {w: $x}}",
        "{a: 1, b: \"ё\\n\", c: 1.50, a: .a}",
        "{a: .a[0], b: .a[-1], c: .a[1:], d: .a[:1]}",
        "{a: .[\"a\"], b: .\"a\"}",
        "\"\\(.a)-\\(.b.c) \\u0041\\t\\(.)\"",
        ".b.c | \"\\(.[8:10]).\\(.[5:7]).\\(.[:4])\"",
        "{a: (.b | {c, d: .e})}",
        "{a: 1} + if .a then {b: .a} else {} end",
        "if .a == .b then \"same\" + .c else {a: .a} end",
        ".a == null",
        ".b + .a",
        "[.a[] | {x: .b, y: .}]",
        "[.b[] | . + 1]",
        ". as $all | [.a[] | {x: $all.c, y: (. == $all.a[0])}]",
        "[.a[] | [.b[] | {n: .}]]",
        "(.a | .b) |= 7",
        "(if .a then .a else .b end) |= 7",
        "try (.a + {}) catch 0",
        "[.a[]? | {b}]",
        "{(.c): 1, b: .b}",
        "[{a: (.a, .b), b: (1, 2)}] | length",
        "{a: (.a | length), b: {c: (.b | type)}}",
        "reduce .b[] as $n ({n: 0}; .n = .n + $n)",
        "[limit(2; .b[] | {n: .})]",
        "map_values(. == 1)",
        "{}",
        ".",
        ".a",
        ".a.b[0]",
        ".b[-1]",
        ".a[1:]",
        ".b | .c",
        "if .a then .b else .c end",
        "7",
    ];
    let inputs = [
        r#"{"a": {"b": [1, 2]}, "b": {"c": "2026-11-23T12:00:00", "e": true}, "c": "k"}"#,
        r#"{"a": [{"b": [1, null]}, {"b": []}], "b": [1, 2, 3], "c": "k"}"#,
        r#"{"a": [1.10, 2], "b": [9223372036854775807], "c": null}"#,
        r#"{"a": "text", "b": "Ёлка", "c": "x"}"#,
        r#"{"a": null, "b": null}"#,
        r#"{"a": 1, "b": 1, "c": 1}"#,
        "null",
        "[1, 2]",
        "7",
    ];
    let mut alike = 0;
    for filter in filters {
        let compiled = Filter::compile(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
        for input in inputs {
            let expected = by_jaq(filter, input);
            let made = compiled.json(read(input).unwrap()).ok();
            assert_eq!(made, expected, "{filter} of {input}");
            alike += usize::from(made.is_some());
        }
    }
    assert!(alike > 100, "{alike} had an output at all");
}

#[test]
fn a_body_is_made_without_an_interpreter() {
    let plain = |text: &str| {
        let tokens = jaq_core::load::Lexer::new(text).lex().unwrap();
        let term = jaq_core::load::Parser::new(&tokens)
            .parse(jaq_core::load::Parser::term)
            .unwrap();
        Plain::of(&term, &mut Variables::new()).is_some_and(|plain| plain.makes())
    };
    for text in [
        "{id: .call.id, items: [$receipt.items[] | {name, vat: {type: .vat}} + if .seller then {inn: .seller.inn} else {} end]}",
        "\"\\($receipt.merchant.id)/\\(.n)\"",
        ".body.status == \"wait\"",
    ] {
        assert!(plain(text), "{text}");
    }
    for text in [
        ".a.b",
        ".a[]",
        "{a: .a[]}",
        "{(.a): 1}",
        ".a?",
        ".a | .b",
        ".a |= 1",
        "[.a[]]",
        "@base64 \"\\(.a)\"",
    ] {
        assert!(!plain(text), "{text}");
    }
}
