//! jq filters: compiled when the file is loaded, without clock, environment or input, one output each.
//!
//! Words that reach outside or may never end are refused, and with `def` all recursion is: a filter's time is bounded by
//! its input and the numbers it names. An output is at most 1 MiB of JSON.

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::Val;

type Compiled = jaq_core::Filter<data::JustLut<Val>>;

/// The most an output may be, in bytes of JSON.
const OUTPUT: usize = 1024 * 1024;
/// What reaches outside, or may never end; `def` because recursion is made of it.
const REFUSED: [&str; 19] = [
    "def",
    "now",
    "env",
    "input",
    "inputs",
    "debug",
    "stderr",
    "halt",
    "halt_error",
    "input_filename",
    "input_line_number",
    "include",
    "import",
    "repeat",
    "while",
    "until",
    "recurse",
    "localtime",
    "strflocaltime",
];

/// The first refused word outside of field names and plain strings.
fn refused(text: &str) -> Option<&str> {
    let mut at = 0;
    let bytes = text.as_bytes();
    while at < bytes.len() {
        if bytes[at] == b'"' {
            // A string with an interpolation is read like any other text.
            let end = string_end(bytes, at);
            if !text[at..end].contains("\\(") {
                at = end;
                continue;
            }
        }
        if bytes[at].is_ascii_alphabetic() || bytes[at] == b'_' {
            let start = at;
            while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                at += 1;
            }
            let field =
                start > 0 && (bytes[start - 1] == b'.' || (bytes[start - 1] == b'$' && &text[start..at] != "ENV"));
            if !field && (REFUSED.contains(&&text[start..at]) || &text[start..at] == "ENV") {
                return Some(&text[start..at]);
            }
        } else {
            at += 1;
        }
    }
    None
}

fn string_end(bytes: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A compiled filter.
pub(super) struct Filter(Compiled);

impl Filter {
    /// Compiles a filter.
    pub(super) fn compile(text: &str) -> Result<Self, String> {
        if let Some(word) = refused(text) {
            return Err(format!("`{word}` is not allowed: it reaches outside or may never end"));
        }
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules = Loader::new(defs)
            .load(&arena, File { code: text, path: () })
            .map_err(|errors| syntax(text, &errors))?;
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let names: Vec<String> = errors
                .iter()
                .flat_map(|(_, errors)| errors)
                .map(|(name, _)| format!("`{name}` is not known or not allowed"))
                .collect();
            names.join(", ")
        })?;
        Ok(Self(filter))
    }

    /// Runs the filter; it must have exactly one output.
    pub(super) fn one(&self, input: Val) -> Result<Val, String> {
        let ctx = Ctx::<data::JustLut<Val>>::new(&self.0.lut, Vars::new([]));
        let mut outputs = self.0.id.run((ctx, input)).map(unwrap_valr);
        let first = outputs.next().ok_or("the filter has no output")?;
        // jq's own message may quote the value it failed on.
        let first = first.map_err(|_| "the filter failed".to_owned())?;
        if outputs.next().is_some() {
            return Err("the filter has more than one output".to_owned());
        }
        Ok(first)
    }

    /// Runs the filter and writes its output as JSON.
    pub(super) fn json(&self, input: Val) -> Result<String, String> {
        let text = self.one(input)?.to_string();
        if text.len() > OUTPUT {
            Err("the output is larger than 1 MiB".to_owned())
        } else {
            Ok(text)
        }
    }

    /// Whether the filter's output is neither false nor null.
    pub(super) fn holds(&self, input: Val) -> Result<bool, String> {
        Ok(!matches!(self.one(input)?, Val::Null | Val::Bool(false)))
    }
}

fn syntax<P>(text: &str, errors: &jaq_core::load::Errors<&str, P>) -> String {
    let mut found = Vec::new();
    for (_, error) in errors {
        match error {
            jaq_core::load::Error::Io(_) => found.push("includes are not allowed".to_owned()),
            jaq_core::load::Error::Lex(errors) => {
                found.extend(
                    errors
                        .iter()
                        .map(|(expected, at)| format!("expected {} at {}", expected.as_str(), place(text, at))),
                );
            }
            jaq_core::load::Error::Parse(errors) => {
                found.extend(
                    errors
                        .iter()
                        .map(|(expected, at)| format!("expected {} at {}", expected.as_str(), place(text, at))),
                );
            }
        }
    }
    found.join(", ")
}

fn place(text: &str, rest: &str) -> String {
    let at = text.len().saturating_sub(rest.len());
    if rest.is_empty() {
        "its end".to_owned()
    } else {
        format!("character {}", at + 1)
    }
}

/// Reads JSON.
pub(super) fn read(json: &str) -> Result<Val, String> {
    jaq_json::read::parse_single(json.as_bytes()).map_err(|_| "not JSON".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
