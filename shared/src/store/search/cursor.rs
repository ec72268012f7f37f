//! Where a walk has come to, as clients carry it about.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// The place after which a walk goes on. To whoever carries it, it is a word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Which of the walk's sources.
    #[serde(rename = "s")]
    pub(super) source: usize,
    /// The last entry of it that was looked at; none: it is yet to begin.
    #[serde(rename = "k")]
    pub(super) key: Option<Key>,
}

/// What an entry of an index is found by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Key {
    /// An id alone.
    #[serde(rename = "i")]
    Id(Uuid),
    /// An external id, of one merchant.
    #[serde(rename = "n")]
    Name(String),
    /// A time, and the id where many have the same.
    #[serde(rename = "t")]
    At(#[serde(with = "time::serde::rfc3339")] OffsetDateTime, Uuid),
    /// An original, and the refund that waits for it.
    #[serde(rename = "o")]
    Of(Uuid, Uuid),
}

impl Cursor {
    /// Reads the word; `None` if it is none.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(word).ok()?).ok()
    }

    /// The word.
    #[must_use]
    pub fn word(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_read_back_and_nothing_else_is() {
        for key in [
            None,
            Some(Key::Id(Uuid::from_u128(7))),
            Some(Key::Name("a/б\"1".to_owned())),
            Some(Key::At(
                time::macros::datetime!(2026-11-25 12:00:00.123456 UTC),
                Uuid::from_u128(8),
            )),
            Some(Key::Of(Uuid::from_u128(1), Uuid::from_u128(2))),
        ] {
            let cursor = Cursor { source: 2, key };
            assert_eq!(Cursor::read(&cursor.word()), Some(cursor));
        }
        for wrong in ["", "x", "e30", &URL_SAFE_NO_PAD.encode(r#"{"s":-1,"k":null}"#)] {
            assert_eq!(Cursor::read(wrong), None, "{wrong}");
        }
    }
}
