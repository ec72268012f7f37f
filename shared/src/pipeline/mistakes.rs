//! What is wrong with a pipeline, and where.

/// Every mistake of a pipeline, each with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Mistakes(pub Vec<String>);

/// A request that cannot be rendered for a receipt; no content of it is quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RenderError(pub String);

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
}
