//! The ledger: every call, every registration, and which receipt each belongs to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use uuid::Uuid;

use crate::route::Target;

/// What was recorded since it was last forgotten.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The id of the first call in `calls`: calls from before the ledger was forgotten have lower ones.
    base: usize,
    pub(crate) calls: Vec<Call>,
    entries: Vec<Entry>,
    by_reference: HashMap<Arc<str>, usize>,
    by_key: HashMap<Arc<str>, usize>,
    by_trace: HashMap<u128, Trace>,
    pub(crate) per_target: BTreeMap<Target, u64>,
    pub(crate) registrations: u64,
    pub(crate) failed: u64,
    pub(crate) by_operation: BTreeMap<String, u64>,
    /// Registered more than once at one API.
    pub(crate) twice: BTreeSet<Arc<str>>,
    agents: HashSet<Arc<str>>,
    pub(crate) under_way: usize,
    pub(crate) most_under_way: usize,
}

/// Names a call, also after the ledger was forgotten (then it names none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallId(pub(crate) usize);

/// One request as it arrived, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Call {
    #[serde(serialize_with = "by_name")]
    pub(crate) target: Target,
    pub(crate) method: Box<str>,
    pub(crate) path: Box<str>,
    /// Arrival, in milliseconds since the epoch.
    pub(crate) at: i64,
    /// When the client says it sent it (`Chekhov-Sent-At`).
    pub(crate) sent_at: Option<i64>,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) idempotency_key: Option<Arc<str>>,
    pub(crate) user_agent: Option<Arc<str>>,
    pub(crate) peer: Option<SocketAddr>,
    /// The status answered; null when none was.
    pub(crate) status: Option<u16>,
    pub(crate) fault: Option<&'static str>,
}

/// One accepted registration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Registration {
    /// Which API accepted it.
    pub(crate) api: &'static str,
    pub(crate) uuid: Uuid,
    pub(crate) external_id: String,
    pub(crate) group: String,
    pub(crate) operation: String,
    pub(crate) total: u64,
    pub(crate) at: i64,
    pub(crate) traceparent: Option<Arc<str>>,
    pub(crate) idempotency_key: Option<Arc<str>>,
    pub(crate) user_agent: Option<Arc<str>>,
    pub(crate) peer: Option<SocketAddr>,
    /// Reported as failed: it does not count as a registration.
    pub(crate) failed: bool,
}

/// What belongs to one receipt.
#[derive(Debug, Default)]
struct Entry {
    calls: Vec<usize>,
    registrations: Vec<Registration>,
}

impl Entry {
    /// How often it was registered, at the API where that was most often.
    fn most_registered(&self) -> usize {
        let mut standing: BTreeMap<&str, usize> = BTreeMap::new();
        for known in self.registrations.iter().filter(|known| !known.failed) {
            *standing.entry(known.api).or_default() += 1;
        }
        standing.into_values().max().unwrap_or_default()
    }
}

/// What a trace says of the receipt its calls belong to.
#[derive(Debug)]
enum Trace {
    /// Calls that wait for the trace's receipt to be known.
    Waiting(Vec<usize>),
    Known(usize),
    /// Several receipts share it, so that it tells nothing.
    Shared,
}

impl Ledger {
    /// Records a call as it arrives.
    pub(crate) fn arrived(&mut self, mut call: Call) -> CallId {
        *self.per_target.entry(call.target).or_default() += 1;
        // The few distinct user agents are kept once.
        if let Some(agent) = &mut call.user_agent {
            if let Some(known) = self.agents.get(agent) {
                *agent = Arc::clone(known);
            } else {
                self.agents.insert(Arc::clone(agent));
            }
        }
        self.calls.push(call);
        CallId(self.base + self.calls.len() - 1)
    }

    /// Ties a call to its receipt: the one its body names, else the one its key or its trace is known for.
    pub(crate) fn tie(&mut self, id: CallId, reference: Option<&str>) {
        let Some((index, call)) = self.find(id) else { return };
        let (key, trace) = (
            call.idempotency_key.clone(),
            call.traceparent.as_deref().and_then(trace_id),
        );
        if let Some(reference) = reference {
            let entry = self.entry(reference);
            self.entries[entry].calls.push(index);
            if let Some(key) = key {
                self.by_key.insert(key, entry);
            }
            if let Some(trace) = trace {
                self.learn(trace, entry);
            }
        } else if let Some(entry) = key.and_then(|key| self.by_key.get(&key)) {
            self.entries[*entry].calls.push(index);
        } else if let Some(trace) = trace {
            match self.by_trace.entry(trace).or_insert_with(|| Trace::Waiting(Vec::new())) {
                Trace::Waiting(calls) => calls.push(index),
                Trace::Known(entry) => self.entries[*entry].calls.push(index),
                Trace::Shared => {}
            }
        }
    }

    /// Notes that a fault strikes a call.
    pub(crate) fn struck(&mut self, id: CallId, fault: &'static str) {
        if let Some((index, _)) = self.find(id) {
            self.calls[index].fault = Some(fault);
        }
    }

    /// Notes what a call was answered.
    pub(crate) fn answered(&mut self, id: CallId, status: u16) {
        if let Some((index, _)) = self.find(id) {
            self.calls[index].status = Some(status);
        }
    }

    /// Counts a registration.
    pub(crate) fn registered(&mut self, reference: &str, registration: Registration) {
        self.registrations += 1;
        *self.by_operation.entry(registration.operation.clone()).or_default() += 1;
        let entry = self.entry(reference);
        self.entries[entry].registrations.push(registration);
        self.count(reference, entry);
    }

    /// Takes a registration back that turned out to have failed.
    pub(crate) fn failed(&mut self, reference: &str, uuid: Uuid) {
        let entry = self.entry(reference);
        let registrations = &mut self.entries[entry].registrations;
        let Some(found) = registrations
            .iter_mut()
            .find(|known| known.uuid == uuid && !known.failed)
        else {
            return;
        };
        found.failed = true;
        self.registrations -= 1;
        self.failed += 1;
        if let Some(count) = self.by_operation.get_mut(&found.operation) {
            *count -= 1;
        }
        self.count(reference, entry);
    }

    /// The calls of a receipt in the order of arrival, and its registrations.
    pub(crate) fn receipt(&self, reference: &str) -> (Vec<&Call>, &[Registration]) {
        let Some(entry) = self.by_reference.get(reference).map(|entry| &self.entries[*entry]) else {
            return (Vec::new(), &[]);
        };
        let mut calls = entry.calls.clone();
        calls.sort_unstable();
        (
            calls.into_iter().map(|index| &self.calls[index]).collect(),
            &entry.registrations,
        )
    }

    /// Every receipt that was called for, and how often it was registered at the API where that was most often.
    pub(crate) fn registered_by_reference(&self) -> impl Iterator<Item = (&str, usize)> {
        let entries = self.by_reference.iter();
        entries.map(|(reference, entry)| (reference.as_ref(), self.entries[*entry].most_registered()))
    }

    /// Forgets everything; calls still under way are not recorded any further.
    pub(crate) fn forget(&mut self) {
        *self = Self {
            base: self.base + self.calls.len(),
            under_way: self.under_way,
            most_under_way: self.under_way,
            ..Self::default()
        };
    }

    fn find(&self, CallId(id): CallId) -> Option<(usize, &Call)> {
        let index = id.checked_sub(self.base)?;
        Some((index, self.calls.get(index)?))
    }

    fn entry(&mut self, reference: &str) -> usize {
        if let Some(entry) = self.by_reference.get(reference) {
            return *entry;
        }
        self.entries.push(Entry::default());
        self.by_reference.insert(reference.into(), self.entries.len() - 1);
        self.entries.len() - 1
    }

    fn learn(&mut self, trace: u128, entry: usize) {
        match self.by_trace.insert(trace, Trace::Known(entry)) {
            Some(Trace::Waiting(calls)) => self.entries[entry].calls.extend(calls),
            Some(Trace::Known(other)) if other != entry => _ = self.by_trace.insert(trace, Trace::Shared),
            Some(Trace::Shared) => _ = self.by_trace.insert(trace, Trace::Shared),
            Some(Trace::Known(_)) | None => {}
        }
    }

    fn count(&mut self, reference: &str, entry: usize) {
        if self.entries[entry].most_registered() > 1 {
            self.twice.insert(reference.into());
        } else {
            self.twice.remove(reference);
        }
    }
}

/// The trace id of a `traceparent`.
pub(crate) fn trace_id(traceparent: &str) -> Option<u128> {
    let id = traceparent.split('-').nth(1).filter(|id| id.len() == 32)?;
    u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn by_name<S: serde::Serializer>(target: &Target, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(target.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(trace: u128, key: &str) -> Call {
        Call {
            target: Target::Catalog,
            method: "GET".into(),
            path: "/".into(),
            at: 0,
            sent_at: None,
            traceparent: Some(format!("00-{trace:032x}-00000000000000aa-01").into()),
            idempotency_key: Some(key.into()),
            user_agent: Some("test".into()),
            peer: None,
            status: None,
            fault: None,
        }
    }

    fn arrive(ledger: &mut Ledger, trace: u128, key: &str, reference: Option<&str>) {
        let id = ledger.arrived(call(trace, key));
        ledger.tie(id, reference);
    }

    #[test]
    fn calls_without_a_body_find_their_receipt_by_trace_or_key() {
        let mut ledger = Ledger::default();
        arrive(&mut ledger, 1, "a", None); // before anything is known of the trace
        arrive(&mut ledger, 1, "b", Some("m/1"));
        arrive(&mut ledger, 1, "c", None);
        arrive(&mut ledger, 9, "b", None); // another trace, a known key
        assert_eq!(ledger.receipt("m/1").0.len(), 4);
        arrive(&mut ledger, 1, "d", Some("m/2"));
        arrive(&mut ledger, 1, "e", None); // now two receipts share the trace
        assert_eq!((ledger.receipt("m/1").0.len(), ledger.receipt("m/2").0.len()), (4, 1));
        assert_eq!(ledger.calls.len(), 6);
    }

    #[test]
    fn what_was_forgotten_is_not_written_to() {
        let mut ledger = Ledger::default();
        let old = ledger.arrived(call(1, "a"));
        ledger.forget();
        arrive(&mut ledger, 2, "b", Some("m/1"));
        ledger.answered(old, 200);
        ledger.tie(old, Some("m/1"));
        assert_eq!(ledger.receipt("m/1").0.len(), 1);
        assert_eq!(ledger.calls[0].status, None);
    }
}
