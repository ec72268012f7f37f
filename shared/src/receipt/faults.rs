//! Why a body is no receipt.

/// One fault and its place. The detail says the rule and never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// RFC 6901, without `#`.
    pub pointer: String,
    /// The rule that was broken.
    pub detail: String,
}

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not JSON.
    #[error("{detail}")]
    NotJson {
        /// Where it stops being JSON.
        detail: String,
    },
    /// It is JSON, with these faults.
    #[error("{}", .0.iter().map(|fault| format!("{}: {}", fault.pointer, fault.detail)).collect::<Vec<_>>().join("\n"))]
    Faults(Vec<Fault>),
}
