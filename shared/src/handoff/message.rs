//! What a message says, and how it is read.
//!
//! A message hands off what was queued together, at most [`Destination::message`](crate::configuration::Destination::message)
//! receipts: what a broker costs, it costs per message. One receipt alone has its trace context in the headers, several have
//! theirs beside their ids.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::telemetry::TraceContext;

/// A handed-off receipt. No personal data: id, epoch and trace context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handed {
    /// The receipt.
    pub id: Uuid,
    /// The epoch that its claim must find.
    pub epoch: i32,
    /// The publish span's context.
    pub trace: TraceContext,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Body {
    Several { receipts: Vec<Entry> },
    One(Entry),
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: Uuid,
    epoch: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
}

/// A message that is none of ours: it is logged, counted and acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("the message cannot be read: {0}")]
pub struct Unreadable(String);

/// The body and the properties of the message that hands off `receipts`.
///
/// # Errors
/// Never: ids and numbers are always JSON.
pub fn encode(receipts: &[Handed]) -> Result<(Vec<u8>, BasicProperties), serde_json::Error> {
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2);
    if let Some(first) = receipts.first() {
        properties = properties.with_message_id(format!("{}:{}", first.id, first.epoch).into());
    }
    let entry = |receipt: &Handed, trace: Option<&TraceContext>| Entry {
        id: receipt.id,
        epoch: receipt.epoch,
        traceparent: trace.map(|trace| trace.traceparent.clone()),
        tracestate: trace.and_then(|trace| trace.tracestate.clone()),
    };
    let body = if let [receipt] = receipts {
        properties = properties.with_headers(headers(&receipt.trace));
        Body::One(entry(receipt, None))
    } else {
        let entries = receipts.iter().map(|receipt| entry(receipt, Some(&receipt.trace)));
        Body::Several {
            receipts: entries.collect(),
        }
    };
    Ok((serde_json::to_vec(&body)?, properties))
}

/// Reads a delivery.
///
/// # Errors
/// When the body is not an id and an epoch, nor several. A missing trace context is none: a new trace begins.
pub fn decode(body: &[u8], properties: &BasicProperties) -> Result<Vec<Handed>, Unreadable> {
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        Unreadable(format!(
            "{:?} at line {} column {}",
            error.classify(),
            error.line(),
            error.column()
        ))
    })?;
    let handed = |entry: Entry| Handed {
        id: entry.id,
        epoch: entry.epoch,
        trace: entry
            .traceparent
            .and_then(|parent| TraceContext::read(&parent, entry.tracestate.as_deref()))
            .unwrap_or_else(|| TraceContext::root(false)),
    };
    Ok(match body {
        Body::Several { receipts } => receipts.into_iter().map(handed).collect(),
        Body::One(entry) => vec![handed(Entry {
            traceparent: header(properties, "traceparent"),
            tracestate: header(properties, "tracestate"),
            ..entry
        })],
    })
}

fn headers(trace: &TraceContext) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(
        "traceparent".into(),
        AMQPValue::LongString(trace.traceparent.as_str().into()),
    );
    if let Some(state) = &trace.tracestate {
        headers.insert("tracestate".into(), AMQPValue::LongString(state.as_str().into()));
    }
    headers
}

fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(epoch: i32) -> Handed {
        let mut trace = TraceContext::root(true);
        trace.tracestate = Some("a=b".to_owned());
        Handed {
            id: Uuid::now_v7(),
            epoch,
            trace,
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        for receipts in [vec![handed(7)], vec![handed(1), handed(2), handed(3)]] {
            let (body, properties) = encode(&receipts).unwrap();
            assert_eq!(decode(&body, &properties).unwrap(), receipts);
        }
    }

    #[test]
    fn one_receipt_alone_is_an_id_and_an_epoch_with_its_trace_in_the_headers() {
        let receipt = handed(7);
        let (body, properties) = encode(std::slice::from_ref(&receipt)).unwrap();
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            format!(r#"{{"id":"{}","epoch":7}}"#, receipt.id)
        );
        assert_eq!(header(&properties, "traceparent"), Some(receipt.trace.traceparent));
    }

    #[test]
    fn what_cannot_be_read_is_said_without_its_content() {
        for body in [
            &b"{\"id\": \"personal\"}"[..],
            b"{\"receipts\": [{\"id\": \"personal\"}]}",
            b"personal",
        ] {
            let error = decode(body, &BasicProperties::default()).unwrap_err();
            assert!(!error.to_string().contains("personal"), "{error}");
        }
    }
}
