//! The body as a tree that hides nothing: members keep their order, and one given twice is there twice.
//!
//! Texts borrow from the body unless they hold an escape.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::faults::{Faults, Place, Refusal};

/// A JSON value.
pub(super) enum Json<'a> {
    /// A number written as an integer that fits; every other number is [`Json::Other`].
    Integer(i64),
    Text(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Object<'a>),
    /// `null`, a truth value, or a number with a fraction, an exponent or too many digits: no receipt has any.
    Other,
}

/// The members of an object as they stand.
pub(super) type Object<'a> = Vec<(Cow<'a, str>, Json<'a>)>;

/// Up to so many members are compared each with each; beyond, a set is faster.
const FEW: usize = 16;

/// Reads a body.
///
/// # Errors
/// [`Refusal::NotJson`] with the line and the column, and nothing of what stands there.
pub(super) fn read(body: &[u8]) -> Result<Json<'_>, Refusal> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    Json::deserialize(&mut deserializer)
        .and_then(|json| deserializer.end().map(|()| json))
        .map_err(|error| {
            let what = if error.is_eof() {
                "ends before it is whole"
            } else {
                "is not JSON"
            };
            Refusal::NotJson {
                detail: format!("the body {what}: line {}, column {}", error.line(), error.column()),
            }
        })
}

/// Refuses, anywhere in `json`, U+0000 in texts and names, and members given twice.
pub(super) fn inspect(json: &Json<'_>, place: &Place<'_>, faults: &mut Faults) {
    match json {
        Json::Text(text) if text.contains('\0') => faults.add(place, "must not contain U+0000"),
        Json::Array(elements) => {
            for (n, element) in elements.iter().enumerate() {
                inspect(element, &Place::Element(place, n), faults);
            }
        }
        Json::Object(members) => {
            let mut seen = HashSet::new();
            for (n, (name, value)) in members.iter().enumerate() {
                let place = Place::Member(place, name);
                if name.contains('\0') {
                    faults.add(&place, "a name must not contain U+0000");
                }
                let twice = if members.len() <= FEW {
                    members[..n].iter().any(|(earlier, _)| earlier == name)
                } else {
                    !seen.insert(name.as_ref())
                };
                if twice {
                    faults.add(&place, "must not be given twice");
                }
                inspect(value, &place, faults);
            }
        }
        Json::Text(_) | Json::Integer(_) | Json::Other => {}
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

/// A member's name, borrowed where it can be.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(Reader)? {
            Json::Text(name) => Ok(Self(name)),
            _ => Err(serde::de::Error::custom("a name is a text")),
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Json::Integer(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Json::Other, Json::Integer))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Json::Other)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = access.next_element()? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = access.next_entry()? {
            members.push((name, value));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(body: &str) -> Vec<String> {
        let mut faults = Faults::default();
        inspect(&read(body.as_bytes()).unwrap_or(Json::Other), &Place::Root, &mut faults);
        match faults.or::<()>(None) {
            Err(Refusal::Faults(faults)) => faults.into_iter().map(|fault| fault.pointer).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn u_0000_is_found_in_texts_and_names() {
        assert_eq!(
            pointers(r#"{"a": [1, {"b/c": "x\u0000"}], "d\u0000": 2}"#),
            ["/a/1/b~1c", "/d\0"]
        );
        assert_eq!(pointers(r#""\u0000""#), [""]);
        assert_eq!(pointers(r#"{"a": "\\u0000"}"#), [""; 0]);
    }

    #[test]
    fn members_given_twice_are_found() {
        assert_eq!(
            pointers(r#"{"a": 1, "b": {"c": 1, "\u0063": 2}, "a": 1}"#),
            ["/b/c", "/a"]
        );
        let many: Vec<_> = (0..40).map(|n| format!(r#""m{}": 0"#, n % 39)).collect();
        assert_eq!(pointers(&format!("{{{}}}", many.join(","))), ["/m0"]);
    }

    #[test]
    fn what_is_not_json_is_placed_and_not_quoted() {
        for (body, place) in [
            ("", "line 1, column 0"),
            ("{\n \"secret\" 1}", "line 2, column 11"),
            ("{} x", "column 4"),
        ] {
            let Err(Refusal::NotJson { detail }) = read(body.as_bytes()) else {
                panic!("{body}");
            };
            assert!(detail.contains(place) && !detail.contains("secret"), "{detail}");
        }
        assert!(read(b"\xff").is_err() && read("[".repeat(100_000).as_bytes()).is_err());
    }
}
