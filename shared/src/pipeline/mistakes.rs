//! What is wrong with a pipeline, and where.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Every mistake of a pipeline, each with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

/// A request that cannot be rendered for a receipt; no content of it is quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(pub String);

impl RenderError {
    /// The error with its place before it.
    pub(super) fn at(self, place: &str) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

/// Collects mistakes while a file is compiled.
#[derive(Default)]
pub(super) struct Found(pub Vec<String>);

impl Found {
    pub(super) fn add(&mut self, place: &str, what: impl std::fmt::Display) {
        self.0.push(format!("{place}: {what}"));
    }

    /// The value, or nothing and one more mistake at `place`.
    pub(super) fn keep<T, E: std::fmt::Display>(&mut self, place: &str, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.add(place, error)).ok()
    }

    /// Reads a table; each of its keys is read alone first, since serde stops at the first that is wrong.
    pub(super) fn read<T: DeserializeOwned>(&mut self, place: &str, table: &Table) -> Option<T> {
        let mut readable = Table::new();
        let before = self.0.len();
        for (key, value) in table {
            let alone = Table::from_iter([(key.clone(), value.clone())]);
            match T::deserialize(Value::Table(alone)) {
                Err(error) if !error.message().starts_with("missing field") => {
                    self.add(&format!("{place}.{key}"), error.message());
                }
                _ => drop(readable.insert(key.clone(), value.clone())),
            }
        }
        let whole = T::deserialize(Value::Table(readable));
        if self.0.len() > before {
            whole.ok()
        } else {
            self.keep(place, whole.map_err(|error| error.message().to_owned()))
        }
    }
}
