//! By what a destination counts calls: the key of a receipt, taken by a filter when it is handed off, and kept from then on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::destination::Following;
use crate::pipeline::{Extract, ExtractError};
use crate::store::step::{Step, To};

/// The longest key, in bytes, that is kept as it is; a longer one is kept as its SHA-256.
const LONGEST: usize = 64;

/// The filters of those destinations that have limit keys, as their rows say: the same for all instances, whatever each has in
/// its own configuration.
pub struct LimitKeys {
    following: Arc<Following>,
    /// By their texts.
    compiled: Mutex<BTreeMap<String, Arc<Extract>>>,
}

impl LimitKeys {
    /// Of destinations that are followed.
    #[must_use]
    pub fn new(following: Arc<Following>) -> Self {
        Self {
            following,
            compiled: Mutex::default(),
        }
    }

    /// A step to a call of a destination, with the receipt's key there; one whose key cannot be told is a person's turn.
    #[must_use]
    pub fn on(&self, step: Step, receipt: &str) -> Step {
        match self.of(&step.destination, receipt) {
            Ok(limit_key) => Step { limit_key, ..step },
            Err(error) => Step {
                to: To::Park,
                reason: Some(format!("its limit key at {} cannot be told: {error}", step.destination)),
                ..step
            },
        }
    }

    /// The key of a receipt at `destination`: '' if it has none, `None` if nobody has one there.
    ///
    /// # Errors
    /// When the filter is none, fails on it, or yields no plain value.
    pub fn of(&self, destination: &str, receipt: &str) -> Result<Option<String>, ExtractError> {
        let known = self.following.get(destination);
        let Some(text) = known.as_ref().and_then(|known| known.settings.limit_key.as_deref()) else {
            return Ok(None);
        };
        key(&*self.filter(text)?, receipt).map(Some)
    }

    fn filter(&self, text: &str) -> Result<Arc<Extract>, ExtractError> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = compiled.get(text) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(Extract::compile(text)?);
        compiled.insert(text.to_owned(), Arc::clone(&filter));
        Ok(filter)
    }
}

fn key(filter: &Extract, receipt: &str) -> Result<String, ExtractError> {
    let key = filter.of_receipt(receipt)?.unwrap_or_default();
    if key.len() <= LONGEST {
        Ok(key)
    } else {
        Ok(hex::encode(Sha256::digest(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_plain_value_or_none() {
        let filter = Extract::compile(".receipt.device").unwrap();
        let of = |receipt: &str| key(&filter, receipt);
        assert_eq!(of(r#"{"device": "a-1"}"#), Ok("a-1".to_owned()));
        assert_eq!(of("{}"), Ok(String::new()));
        assert!(of(r#"{"device": ["a-1"]}"#).is_err());
        let long = of(&format!(r#"{{"device": "{}"}}"#, "x".repeat(65)));
        assert_eq!(long.unwrap().len(), 64);
    }
}
