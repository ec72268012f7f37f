//! JSON as a filter sees it, read without copies: a text is a part of the document, as cheap to make as to clone. What has to
//! keep its spelling (numbers that are no integers) and what only jq takes for JSON is left to jq's own reader.

use std::fmt::{self, Formatter};

use bytes::Bytes;
use jaq_json::{Num, Val};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads JSON.
pub(super) fn read(json: &str) -> Result<Val, String> {
    let document = Bytes::copy_from_slice(json.as_bytes());
    let mut reader = serde_json::Deserializer::from_slice(&document);
    let exact = Part { of: &document }.deserialize(&mut reader);
    match exact.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Ok(value),
        Err(_) => jaq_json::read::parse_single(json.as_bytes()).map_err(|_| "not JSON".to_owned()),
    }
}

/// Reads a value that is a part of a document.
#[derive(Clone, Copy)]
struct Part<'d> {
    of: &'d Bytes,
}

impl<'d> DeserializeSeed<'d> for Part<'d> {
    type Value = Val;

    fn deserialize<D: Deserializer<'d>>(self, reader: D) -> Result<Val, D::Error> {
        reader.deserialize_any(self)
    }
}

/// A number with a fraction or an exponent is none of these: it is refused, and with it the document.
impl<'d> Visitor<'d> for Part<'d> {
    type Value = Val;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with integers alone")
    }

    fn visit_unit<E: Error>(self) -> Result<Val, E> {
        Ok(Val::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Val, E> {
        Ok(Val::Bool(value))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Val, E> {
        let number = isize::try_from(number).map_err(E::custom)?;
        Ok(Val::Num(Num::Int(number)))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Val, E> {
        let number = isize::try_from(number).map_err(E::custom)?;
        Ok(Val::Num(Num::Int(number)))
    }

    fn visit_borrowed_str<E: Error>(self, text: &'d str) -> Result<Val, E> {
        Ok(Val::utf8_str(self.of.slice_ref(text.as_bytes())))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Val, E> {
        Ok(Val::utf8_str(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'d>>(self, mut elements: A) -> Result<Val, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(self)? {
            array.push(element);
        }
        Ok(Val::Arr(array.into()))
    }

    fn visit_map<A: MapAccess<'d>>(self, mut members: A) -> Result<Val, A::Error> {
        // Gathered first: an object that grows is hashed again, and keeps room for more than it has.
        let mut gathered = Vec::new();
        while let Some(name) = members.next_key_seed(self)? {
            gathered.push((name, members.next_value_seed(self)?));
        }
        Ok(Val::obj(gathered.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn means_what_it_means_to_jq(json: &str) {
        let by_jaq = jaq_json::read::parse_single(json.as_bytes());
        match (read(json), by_jaq) {
            (Ok(value), Ok(expected)) => assert_eq!(format!("{value:?}"), format!("{expected:?}"), "{json}"),
            (value, expected) => assert_eq!(value.is_ok(), expected.is_ok(), "{json}"),
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_means_what_it_means_to_jq(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ":", ",", " ", "\"", "\"a\"", "\"ё\\n\"", "\"\\ud83d\"", "\"a\":", "1", "-0", "1.10", "2e3",
                    "9223372036854775807", "9223372036854775808", "null", "true", "NaN", "#", "\n",
                ]),
                0..12,
            )
        ) {
            means_what_it_means_to_jq(&parts.concat());
            means_what_it_means_to_jq(&format!("[{}]", parts.join(",")));
            means_what_it_means_to_jq(&format!("{{\"a\":{}}}", parts.join(",\"b\":")));
        }
    }

    #[test]
    fn everything_means_what_it_means_to_jq() {
        for json in [
            r#"{"a": {"b": [1, -2, {}, [], null, true, false]}, "": "", "c": "text"}"#,
            r#"{"escaped \" \\ \n \u0451 \ud83d\ude00": "\u0000", "Ё": "ёлка"}"#,
            r#"{"a": 1, "b": 2, "a": {"twice": 3}}"#,
            "[9223372036854775807, -9223372036854775808, 9223372036854775808, 123456789012345678901234567890]",
            "[0, -0, 1.10, 1e400, -1.5e-3, 0.1]",
            " 7 ",
            "\"alone\"",
            "# a comment\n[1]",
            "[NaN]",
            "[1] 2",
            "[1,]",
            "\"\\ud800\"",
            "",
            "{1: 2}",
        ] {
            means_what_it_means_to_jq(json);
        }
    }

    #[test]
    fn a_text_is_not_copied() {
        let json = format!(r#"{{"name": "{}"}}"#, "x".repeat(100));
        let Val::Obj(object) = read(&json).unwrap() else {
            panic!("no object")
        };
        let (Some((Val::TStr(name), Val::TStr(value))), 1) = (object.first(), object.len()) else {
            panic!("{object:?}")
        };
        // `": "` is between them, as it was.
        assert_eq!(value.as_ptr().addr() - name.as_ptr().addr(), "name\": \"".len());
    }
}
