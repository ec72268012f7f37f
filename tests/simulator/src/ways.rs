//! When each receipt reached what, by one clock for all: early stages end with the answer to the last internal call, the whole
//! way with the report that first says `done`.

use std::collections::HashMap;

use serde::Serialize;

use crate::ledger::Ledger;

/// What a receipt reaches with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Milestone {
    /// Its document was stored: the last internal call.
    Document,
    /// A report said `done`.
    Done,
}

/// The ways of all receipts since they were forgotten, by reference.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    ways: HashMap<String, Way>,
    done: u64,
}

/// The instants of one, in microseconds since the epoch: each time the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Way {
    document_us: Option<i64>,
    done_us: Option<i64>,
}

/// One of `GET /ways`.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    reference: &'a str,
    #[serde(flatten)]
    way: Way,
    /// How often it is registered.
    registered: usize,
}

impl Ways {
    /// Notes that a receipt reaches something.
    pub(crate) fn reached(&mut self, reference: String, milestone: Milestone, at_us: i64) {
        let way = self.ways.entry(reference).or_default();
        match milestone {
            Milestone::Document => _ = way.document_us.get_or_insert(at_us),
            Milestone::Done if way.done_us.is_none() => {
                way.done_us = Some(at_us);
                self.done += 1;
            }
            Milestone::Done => {}
        }
    }

    /// How many were reported as done.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// All receipts that the ledger knows.
    pub(crate) fn all<'a>(&self, ledger: &'a Ledger) -> Vec<Shown<'a>> {
        let shown = |(reference, registered)| Shown {
            reference,
            way: self.ways.get(reference).copied().unwrap_or_default(),
            registered,
        };
        ledger.registered_by_reference().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reached_again_was_reached_before() {
        let mut ways = Ways::default();
        for (milestone, at) in [
            (Milestone::Document, 1),
            (Milestone::Document, 2),
            (Milestone::Done, 3),
            (Milestone::Done, 4),
        ] {
            ways.reached("m/1".to_owned(), milestone, at);
        }
        let wanted = Way {
            document_us: Some(1),
            done_us: Some(3),
        };
        assert_eq!((ways.ways["m/1"], ways.done()), (wanted, 1));
    }
}
