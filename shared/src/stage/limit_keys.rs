//! By what a destination counts calls: the key of a receipt, taken by a filter when it is handed off, and kept from then on.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::configuration::{Configuration, Invalid};
use crate::pipeline::{Extract, ExtractError};
use crate::store::step::{Step, To};

/// The longest key, in bytes, that is kept as it is; a longer one is kept as its SHA-256.
const LONGEST: usize = 64;

/// The filters of those destinations that have limit keys.
#[derive(Default)]
pub struct LimitKeys(BTreeMap<String, Extract>);

impl LimitKeys {
    /// Compiles them.
    ///
    /// # Errors
    /// When one is no filter: reading the configuration has found that before.
    pub fn new(configuration: &Configuration) -> Result<Self, Invalid> {
        let mut filters = BTreeMap::new();
        for (name, destination) in &configuration.destination {
            let Some(text) = &destination.limit_key else { continue };
            let compiled = Extract::compile(text)
                .map_err(|error| Invalid(vec![format!("destination.{name}.limit_key: {error}")]))?;
            filters.insert(name.clone(), compiled);
        }
        Ok(Self(filters))
    }

    /// A step to the first call of a destination, with the receipt's key there; one whose key cannot be told is a person's turn.
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
    /// When the filter fails on it, or yields no plain value.
    fn of(&self, destination: &str, receipt: &str) -> Result<Option<String>, ExtractError> {
        let Some(filter) = self.0.get(destination) else {
            return Ok(None);
        };
        let key = filter.of_receipt(receipt)?.unwrap_or_default();
        if key.len() <= LONGEST {
            Ok(Some(key))
        } else {
            Ok(Some(hex::encode(Sha256::digest(key))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_plain_value_or_none() {
        let filter = Extract::compile(".receipt.device").unwrap();
        let keys = LimitKeys([("fiscal".to_owned(), filter)].into());
        let of = |receipt: &str| keys.of("fiscal", receipt);
        assert_eq!(of(r#"{"device": "a-1"}"#), Ok(Some("a-1".to_owned())));
        assert_eq!(of("{}"), Ok(Some(String::new())));
        assert!(of(r#"{"device": ["a-1"]}"#).is_err());
        let long = of(&format!(r#"{{"device": "{}"}}"#, "x".repeat(65)));
        assert_eq!(long.unwrap().unwrap().len(), 64);
        assert_eq!(keys.of("other", "{}"), Ok(None));
    }
}
