//! Why a body is refused, and where exactly.

use std::fmt;

/// One broken rule and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, by RFC 6901 without `#`; empty for the whole body. A missing member: where it should be; an unknown one:
    /// where it stands.
    pub pointer: String,
    /// The rule, as a sentence for a person. Never a value of the body: it may be personal data.
    pub detail: String,
}

/// Why a body is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The body is not JSON: HTTP 400.
    #[error("{detail}")]
    NotJson {
        /// The line and the column where it stops being JSON, and nothing of what stands there.
        detail: String,
    },
    /// The body is JSON, but breaks these rules, of which there is at least one: HTTP 422.
    #[error("{}", Listed(.0))]
    Faults(Vec<Fault>),
}

/// Faults, one a line.
struct Listed<'a>(&'a [Fault]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            let end = if n == 0 { "" } else { "\n" };
            write!(formatter, "{end}{}: {}", fault.pointer, fault.detail)?;
        }
        Ok(())
    }
}

/// A place inside the body, written out only if something is wrong with it: a body without faults costs no pointer.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// The body itself.
    Root,
    /// A member of an object.
    Member(&'a Place<'a>, &'a str),
    /// An element of an array.
    Element(&'a Place<'a>, usize),
}

impl Place<'_> {
    /// The pointer by RFC 6901.
    pub(super) fn pointer(&self) -> String {
        let mut pointer = String::new();
        self.write(&mut pointer);
        pointer
    }

    fn write(&self, pointer: &mut String) {
        match self {
            Place::Root => {}
            Place::Member(above, name) => {
                above.write(pointer);
                pointer.push('/');
                for letter in name.chars() {
                    match letter {
                        '~' => pointer.push_str("~0"),
                        '/' => pointer.push_str("~1"),
                        letter => pointer.push(letter),
                    }
                }
            }
            Place::Element(above, n) => {
                above.write(pointer);
                pointer.push('/');
                pointer.push_str(&n.to_string());
            }
        }
    }
}

/// The most bytes of pointers in one refusal. A real receipt comes nowhere near; a body made of one very long name with
/// thousands of faults below it would otherwise be answered with gigabytes.
const MOST_BYTES: usize = 1 << 20;

/// The faults found so far, in the order they were found.
#[derive(Default)]
pub(super) struct Faults {
    found: Vec<Fault>,
    bytes: usize,
}

impl Faults {
    /// Adds the fault that `rule` is broken at `place`.
    pub(super) fn add(&mut self, place: &Place<'_>, rule: impl Into<String>) {
        if self.bytes > MOST_BYTES {
            return;
        }
        let pointer = place.pointer();
        self.bytes += pointer.len();
        self.found.push(Fault {
            pointer,
            detail: rule.into(),
        });
    }

    /// The receipt if nothing was wrong, else everything that was.
    pub(super) fn or<T>(self, receipt: Option<T>) -> Result<T, Refusal> {
        match receipt {
            Some(receipt) if self.found.is_empty() => Ok(receipt),
            _ => Err(Refusal::Faults(self.found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_are_escaped() {
        let items = Place::Member(&Place::Root, "items");
        let item = Place::Element(&items, 7);
        assert_eq!(Place::Root.pointer(), "");
        assert_eq!(Place::Member(&item, "a/b~c").pointer(), "/items/7/a~1b~0c");
    }

    #[test]
    fn a_long_name_is_not_repeated_without_end() {
        let name = "x".repeat(100_000);
        let above = Place::Member(&Place::Root, &name);
        let mut faults = Faults::default();
        for n in 0..10_000 {
            faults.add(&Place::Element(&above, n), "is wrong");
        }
        assert!((10..20).contains(&faults.found.len()), "{} faults", faults.found.len());
    }
}
