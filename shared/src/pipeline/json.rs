//! A filter's output as JSON. jq has values that JSON has not (nan, infinite, bytes), and nests as deep as it is asked to:
//! both are found while it is written.

use jaq_json::{Num, Val};
use serde::ser::{Error, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// How deep JSON may be nested: readers recurse.
const DEPTH: usize = 128;

/// The value as JSON, nested no deeper than any reader can bear.
pub(super) fn write(value: &Val) -> Result<String, String> {
    serde_json::to_string(&Nested { value, depth: 0 })
        .map_err(|_| "the output is no JSON, or nested too deep".to_owned())
}

/// A value inside so many others.
struct Nested<'v> {
    value: &'v Val,
    depth: usize,
}

impl Nested<'_> {
    fn inside<'v>(&self, value: &'v Val) -> Nested<'v> {
        Nested {
            value,
            depth: self.depth + 1,
        }
    }
}

impl Serialize for Nested<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_inside = matches!(self.value, Val::Arr(_) | Val::Obj(_));
        if is_inside && self.depth == DEPTH {
            return Err(S::Error::custom("nested too deep"));
        }
        match self.value {
            Val::Null => serializer.serialize_unit(),
            Val::Bool(value) => serializer.serialize_bool(*value),
            Val::Num(Num::Int(number)) => number.serialize(serializer),
            // As jq spells it, with every digit; nan is none of JSON's.
            Val::Num(number) => RawValue::from_string(number.to_string())
                .map_err(S::Error::custom)?
                .serialize(serializer),
            Val::TStr(text) => serializer.serialize_str(&String::from_utf8_lossy(text)),
            Val::BStr(_) => Err(S::Error::custom("bytes")),
            Val::Arr(items) => {
                let mut array = serializer.serialize_seq(Some(items.len()))?;
                for item in items.iter() {
                    array.serialize_element(&self.inside(item))?;
                }
                array.end()
            }
            Val::Obj(members) => {
                let mut object = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members.iter() {
                    let Val::TStr(name) = name else {
                        return Err(S::Error::custom("a name that is no text"));
                    };
                    object.serialize_entry(&*String::from_utf8_lossy(name), &self.inside(value))?;
                }
                object.end()
            }
        }
    }
}

/// Whether it is JSON, nested no deeper than any reader can bear.
pub(super) fn is_json(text: &[u8]) -> bool {
    is_shallow(text) && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

fn is_shallow(text: &[u8]) -> bool {
    let opening = text.iter().filter(|byte| matches!(byte, b'[' | b'{'));
    if opening.count() <= DEPTH {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::reader::read;

    #[test]
    fn what_is_nested_too_deep_is_no_json() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_json(nested(128).as_bytes()));
        assert!(!is_json(nested(129).as_bytes()));
        assert!(!is_json(nested(500_000).as_bytes()));
        assert!(
            is_json(format!("{:?}", nested(500)).as_bytes()),
            "in a string it is none"
        );
        assert!(!is_json(b"NaN") && is_json(br#"{"a": "\\\"["}"#));
        assert!(write(&read(&nested(128)).unwrap()).is_ok());
        assert!(write(&read(&nested(129)).unwrap()).is_err());
    }

    #[test]
    fn what_is_written_is_what_was_read() {
        let json = r#"{"total":9223372036854775807,"large":123456789012345678901234567890,"n":-1,"price":1.10,"e":1e400,"name":"\"Ё\"\n\u0001","none":null,"all":[true,[],{}]}"#;
        assert_eq!(write(&read(json).unwrap()).as_deref(), Ok(json));
    }

    #[test]
    fn what_json_has_not_is_not_written() {
        for value in [
            Val::from(f64::NAN),
            Val::from(f64::INFINITY),
            Val::byte_str(vec![255]),
            Val::obj([(Val::from(1_usize), Val::Null)].into_iter().collect()),
        ] {
            assert!(write(&Val::Arr(vec![value].into())).is_err());
        }
    }
}
