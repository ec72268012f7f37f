//! Waits, as spans of their own: each is recorded by whoever takes the receipt to work again, so that none is open while a
//! receipt waits, and none is lost with a process.

use std::time::SystemTime;

use opentelemetry::KeyValue;
use time::OffsetDateTime;

use crate::store::load::{Wait, Work};
use crate::telemetry::TraceContext;
use crate::telemetry::names::{RECEIPT_ID, WAIT_KIND, WAIT_REASON};

/// Records what a receipt waited for before its row was moved: claimed, or queued.
pub fn record(work: &Work) {
    if let Some(wait) = &work.wait {
        let reason = wait.reason.as_deref().unwrap_or_else(|| usual(wait));
        past(work, &wait.kind, reason, (wait.since, work.moved_at.into()));
    }
}

/// Records what a receipt waited for that was queued when it was read, and is claimed now: before it was queued, and then.
pub fn record_queued(work: &Work) {
    record(work);
    past(
        work,
        "queue",
        "its turn at the gate",
        (work.moved_at, SystemTime::now()),
    );
}

/// Why a receipt waits where nothing went wrong.
fn usual(wait: &Wait) -> &'static str {
    match wait.kind.as_str() {
        "turn" => "its first call",
        "original" => "its original was open",
        "person" => "a person's turn",
        _ => "its turn",
    }
}

fn past(work: &Work, kind: &str, reason: &str, (since, until): (OffsetDateTime, SystemTime)) {
    let receipts = TraceContext {
        traceparent: work.traceparent.clone(),
        tracestate: work.tracestate.clone(),
    };
    receipts.past("wait", (since.into(), until), || {
        vec![
            KeyValue::new(RECEIPT_ID, work.hold.id.to_string()),
            KeyValue::new(WAIT_KIND, kind.to_owned()),
            KeyValue::new(WAIT_REASON, reason.to_owned()),
        ]
    });
}
