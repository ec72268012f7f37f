//! Paths with `{.plain.paths}` in them, percent-encoded.

use jaq_json::Val;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::RenderError;

/// What stands unencoded in a segment: RFC 3986's unreserved characters.
pub(super) const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text with places.
pub(super) struct Template(Vec<Part>);

enum Part {
    Text(String),
    Path(Vec<String>),
}

impl Template {
    /// Reads a template.
    pub(super) fn compile(template: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (path, after) = after.split_once('}').ok_or("`{` without `}`")?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Path(plain(path)?));
            rest = after;
        }
        if rest.contains('}') {
            return Err("`}` without `{`".to_owned());
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// The plain paths it takes.
    pub(super) fn places(&self) -> impl Iterator<Item = &[String]> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Path(path) => Some(path.as_slice()),
        })
    }

    /// The text with every place filled; `at` answers what a place's path leads to.
    pub(super) fn render(
        &self,
        at: impl Fn(&[String]) -> Result<Option<Val>, RenderError>,
        encoded: bool,
    ) -> Result<String, RenderError> {
        let mut rendered = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Path(path) => {
                    let value = at(path)?
                        .and_then(|value| scalar(&value))
                        .ok_or_else(|| RenderError(format!(".{} has no plain value", path.join("."))))?;
                    if encoded && (value == "." || value == "..") {
                        return Err(RenderError(format!(".{} is no path segment", path.join("."))));
                    }
                    if encoded {
                        rendered.extend(utf8_percent_encode(&value, SEGMENT));
                    } else {
                        rendered.push_str(&value);
                    }
                }
            }
        }
        Ok(rendered)
    }
}

fn plain(path: &str) -> Result<Vec<String>, String> {
    let names: Vec<String> = path
        .strip_prefix('.')
        .ok_or("a place is a plain path such as {.receipt.merchant.id}")?
        .split('.')
        .map(str::to_owned)
        .collect();
    let good = |name: &String| {
        !name.is_empty()
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "_-".contains(letter))
    };
    if !names.iter().all(good) {
        return Err(format!("{{{path}}} is not a plain path"));
    }
    if !["receipt", "results", "vars", "call", "item"].contains(&names[0].as_str()) {
        return Err(format!(
            "{{{path}}}: .receipt, .results, .vars, .call and .item are there"
        ));
    }
    Ok(names)
}

/// A string, number or boolean as text.
pub(super) fn scalar(value: &Val) -> Option<String> {
    match value {
        Val::TStr(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        Val::Num(_) | Val::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::reader::read;
    use crate::pipeline::view::named;

    #[test]
    fn values_are_encoded_and_null_is_an_error() {
        let receipt = read(r#"{"id": "a/b ё", "n": 7, "no": null, "up": ".."}"#).unwrap();
        let at = |path: &[String]| {
            let is_known = path[0] == "receipt";
            Ok(path[1..]
                .iter()
                .try_fold(receipt.clone(), |value, name| named(&value, name))
                .filter(|_| is_known))
        };
        let render = |text: &str| Template::compile(text).unwrap().render(at, true);
        assert_eq!(render("/x/{.receipt.id}/{.receipt.n}").unwrap(), "/x/a%2Fb%20%D1%91/7");
        for wrong in [
            "{.receipt.no}",
            "{.receipt.missing}",
            "{.receipt}",
            "{.receipt.up}",
            "{.item}",
        ] {
            assert!(render(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_plain_paths_are_places() {
        for wrong in [
            "/{receipt}",
            "/{.receipt[0]}",
            "/{.receipt | keys}",
            "/{.other.x}",
            "/{.receipt",
            "/}",
            "/{.}",
        ] {
            assert!(Template::compile(wrong).is_err(), "{wrong}");
        }
    }
}
