//! A trace as text: the spans as a tree, in the order in which they began, so that it can be read and compared whole.

use std::fmt::Write;

use crate::collector::Span;

/// Two lines a span: what it is, and its attributes. What differs from run to run is `named`: a text, and what stands for it.
#[must_use]
pub fn tree(spans: &[Span], named: &[(&str, &str)]) -> String {
    let mut spans: Vec<&Span> = spans.iter().collect();
    spans.sort_by_key(|span| span.times);
    let is_there = |id: &str| spans.iter().any(|span| span.span_id == id);
    let roots = spans.iter().filter(|span| !is_there(&span.parent_id));
    let mut text = String::new();
    for root in roots {
        write(&mut text, &spans, root, 0);
    }
    for (what, name) in named {
        text = text.replace(what, name);
    }
    text
}

fn write(text: &mut String, spans: &[&Span], span: &Span, depth: usize) {
    let indent = "    ".repeat(depth);
    let service = span.service.trim_start_matches("chekhov-");
    let kind = ["unspecified", "internal", "server", "client", "producer", "consumer"]
        .get(usize::try_from(span.kind).unwrap_or_default())
        .unwrap_or(&"unknown");
    let mut said = Vec::new();
    if depth == 0 && !span.parent_id.is_empty() {
        said.push(format!("below {}", span.parent_id));
    }
    for (trace, linked) in &span.links {
        said.push(if *linked == span.parent_id {
            "linked to its parent".to_owned()
        } else {
            format!("linked to {trace} {linked}")
        });
    }
    if span.failed {
        said.push("failed".to_owned());
    }
    let said: String = said.into_iter().fold(String::new(), |all, one| all + ", " + &one);
    let attributes: Vec<_> = span
        .attributes
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    // A text always takes what is written to it.
    let _ = writeln!(text, "{indent}{} ({service} {kind}{said})", span.name);
    let _ = writeln!(text, "{indent}  | {}", attributes.join(" "));
    for child in spans.iter().filter(|child| child.parent_id == span.span_id) {
        write(text, spans, child, depth + 1);
    }
}
