//! jq filters: compiled when the file is loaded, without clock, environment or input, one output each, inside the limits
//! of their [`meter`](super::meter). An output is at most 1 MiB of JSON.

use jaq_core::load::{Arena, File, Lexer, Loader, Parser};
use jaq_core::{Compiler, Ctx, Vars, unwrap_valr};
use jaq_json::Val;

use super::json::write;
use super::meter::{self, Meter, Metered, Run, WHOLE, metered};
use super::native::Natives;
use super::plain::Plain;
use super::reads::Reads;

/// The most an output may be, in bytes of JSON.
const OUTPUT: usize = 1024 * 1024;

/// A compiled filter.
pub(super) struct Filter {
    runs: Runs,
    reads: Reads,
}

/// By what it runs.
enum Runs {
    /// Without jaq.
    Plain(Plain),
    Compiled(jaq_core::Filter<Metered>, Natives),
}

impl Filter {
    /// Compiles a filter.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        let tokens = Lexer::new(text)
            .lex()
            .map_err(|errors| expected(text, errors.iter().map(|(expected, at)| (expected.as_str(), *at))))?;
        let term = Parser::new(&tokens).parse(Parser::term).map_err(|errors| {
            let found = errors
                .iter()
                .map(|(expected, found)| (expected.as_str(), found.map_or("", |token| token.0)));
            expected(text, found)
        })?;
        let reads = Reads::of(&term);
        if let Some(plain) = Plain::alone(&term) {
            let runs = Runs::Plain(plain);
            return Ok(Self { runs, reads });
        }
        let mut natives = Natives::default();
        let term = metered(term, &mut natives)
            .map_err(|word| format!("`{word}` is not allowed: it reaches outside or may never end"))?;

        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs()
            .chain(jaq_std::funs())
            .chain(jaq_json::funs())
            .chain([meter::funs()])
            .chain(natives.funs());
        let arena = Arena::default();
        let modules = Loader::new(defs.map(meter::shorter).chain([meter::definition(WHOLE, term)]))
            .load(&arena, File { code: WHOLE, path: () })
            .map_err(|_| "the filter cannot be loaded".to_owned())?;
        let compiled = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let names: Vec<String> = errors
                .iter()
                .flat_map(|(_, errors)| errors)
                .map(|(name, _)| format!("`{name}` is not known or not allowed"))
                .collect();
            names.join(", ")
        })?;
        let runs = Runs::Compiled(compiled, natives);
        Ok(Self { runs, reads })
    }

    /// What it reads of its input.
    pub(super) fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Runs the filter; it must have exactly one output.
    pub(super) fn one(&self, input: Val) -> Result<Val, String> {
        let meter = Meter::start();
        let (first, second) = match &self.runs {
            Runs::Plain(plain) => (Some(plain.run(&input, &[], &meter)), false),
            Runs::Compiled(compiled, natives) => {
                let run = Run {
                    lut: &compiled.lut,
                    meter: &meter,
                    natives,
                };
                let context = Ctx::<Metered>::new(run, Vars::new([]));
                let mut outputs = compiled.id.run((context, input)).map(unwrap_valr);
                (outputs.next(), outputs.next().is_some())
            }
        };
        if meter.is_spent() {
            return Err("the filter took too many steps or too long".to_owned());
        }
        if second {
            return Err("the filter has more than one output".to_owned());
        }
        // jq's own message may quote the value it failed on.
        first
            .ok_or("the filter has no output")?
            .map_err(|_| "the filter failed".to_owned())
    }

    /// Runs the filter and writes its output as JSON.
    pub(super) fn json(&self, input: Val) -> Result<String, String> {
        let text = write(&self.one(input)?)?;
        if text.len() > OUTPUT {
            return Err("the output is larger than 1 MiB".to_owned());
        }
        Ok(text)
    }

    /// Whether the filter's output is neither false nor null.
    pub(super) fn holds(&self, input: Val) -> Result<bool, String> {
        Ok(!matches!(self.one(input)?, Val::Null | Val::Bool(false)))
    }
}

/// What was expected, and where.
fn expected<'a>(text: &str, errors: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let found: Vec<String> = errors
        .map(|(expected, at)| format!("expected {expected} at {}", place(text, at)))
        .collect();
    found.join(", ")
}

fn place(text: &str, rest: &str) -> String {
    if rest.is_empty() {
        return "its end".to_owned();
    }
    let at = jaq_core::load::span(text, rest).start;
    format!("character {}", text[..at].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::reader::read;

    #[test]
    fn what_may_never_end_or_reaches_outside_is_refused() {
        for text in [
            "def f: f; f",
            "repeat(1)",
            "[while(true; .)]",
            "now",
            "env.HOME",
            "$ENV",
            "input",
            "\"\\(now)\"",
            "1 |",
            "nosuch(1)",
        ] {
            assert!(Filter::compile(text).is_err(), "{text}");
        }
        for text in [".now", "\"while\"", ".a.input", "..", "[.[]? | tostring] | join(\",\")"] {
            assert!(
                Filter::compile(text).is_ok(),
                "{text}: {:?}",
                Filter::compile(text).err()
            );
        }
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let value = || read(&format!("{:?}", (0..300).collect::<Vec<_>>())).unwrap();
        for text in [
            "[range(1e12)] | length",
            "last(range(1e12))",
            "reduce range(1e12) as $n (0; . + 1)",
            "[range(0; 1; 0)] | length",
            "[range(1e12) | try . catch 0] | length",
            "try ([range(1e12)] | length) catch 0",
            ". as $a | [$a[] | $a[] | $a[]] | length",
            ". as $a | [$a[] | [$a[] | [$a[] | {n: .}]]] | length",
            "[.. | range(1e9)] | length",
            "first(range(1e12) | select(. < 0))",
        ] {
            let begun = std::time::Instant::now();
            let error = Filter::compile(text).unwrap().one(value()).unwrap_err();
            assert!(error.contains("too many steps"), "{text}: {error}");
            assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{text}");
        }
    }

    #[test]
    fn the_meter_changes_no_meaning() {
        let value = r#"{"items": [{"sku": "a", "seller": {"inn": "1"}}, {"sku": "b"}], "n": 7}"#;
        for (text, expected) in [
            ("[.items[].sku] | join(\",\")", "\"a,b\""),
            ("[.items[].seller // empty | .inn] | unique", "[\"1\"]"),
            (".items |= map(.sku)", r#"{"items":["a","b"],"n":7}"#),
            ("[.items[] | .sku |= ascii_upcase | .sku]", "[\"A\",\"B\"]"),
            ("del(.items[0]) | .items | length", "1"),
            ("[paths(type == \"number\")]", "[[\"n\"]]"),
            ("[.items[] as {sku: $s} | $s]", "[\"a\",\"b\"]"),
            ("{n, \"m\": .n, (\"k\" + \"1\"): 1}", r#"{"n":7,"m":7,"k1":1}"#),
            (".n as $x | {$x}", r#"{"x":7}"#),
            ("\"\\(.n)-\\(.items | length)\"", "\"7-2\""),
            ("if .n > 3 then first(range(5; 9)) else 0 end", "5"),
            (
                "label $out | .items[] | if .sku == \"a\" then ., break $out else . end | .sku",
                "\"a\"",
            ),
            ("reduce .items[] as $i (0; . + 1)", "2"),
            ("(.items[0].none? // -1) | -.", "1"),
        ] {
            let filter = Filter::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(filter.json(read(value).unwrap()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn one_output_no_more_and_no_less() {
        let run = |text: &str| Filter::compile(text).unwrap().json(read("[1, 2]").unwrap());
        assert_eq!(run(".[0]").unwrap(), "1");
        assert!(run(".[]").is_err());
        assert!(run("empty").is_err());
    }

    #[test]
    fn integers_stay_integers() {
        let value = read(r#"{"total": 9223372036854775807}"#).unwrap();
        assert_eq!(
            Filter::compile(".total").unwrap().json(value).unwrap(),
            "9223372036854775807"
        );
    }
}
