//! What a message says, and how it is read.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::telemetry::TraceContext;

/// A handed-off receipt. No personal data: id, epoch, and the trace context in the headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The receipt.
    pub id: Uuid,
    /// The epoch that its claim must find.
    pub epoch: i32,
    /// The publish span's context.
    pub trace: TraceContext,
}

#[derive(Serialize, Deserialize)]
struct Body {
    id: Uuid,
    epoch: i32,
}

/// A message that is none of ours: it is logged, counted and acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("the message cannot be read: {0}")]
pub struct Unreadable(String);

impl Message {
    /// The body and the properties to publish.
    #[must_use]
    pub fn encode(&self) -> (Vec<u8>, BasicProperties) {
        let mut headers = FieldTable::default();
        headers.insert(
            "traceparent".into(),
            AMQPValue::LongString(self.trace.traceparent.as_str().into()),
        );
        if let Some(state) = &self.trace.tracestate {
            headers.insert("tracestate".into(), AMQPValue::LongString(state.as_str().into()));
        }
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_message_id(format!("{}:{}", self.id, self.epoch).into())
            .with_headers(headers);
        let body = format!(r#"{{"id":"{}","epoch":{}}}"#, self.id, self.epoch).into_bytes();
        (body, properties)
    }

    /// Reads a delivery.
    ///
    /// # Errors
    /// When the body is not an id and an epoch. A missing trace context is none: a new trace begins.
    pub fn decode(body: &[u8], properties: &BasicProperties) -> Result<Self, Unreadable> {
        let body: Body = serde_json::from_slice(body)
            .map_err(|error| Unreadable(format!("line {} column {}", error.line(), error.column())))?;
        let header = |name: &str| {
            let headers = properties.headers().as_ref()?;
            match headers.inner().get(name)? {
                AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
                _ => None,
            }
        };
        let trace = header("traceparent")
            .and_then(|parent| TraceContext::read(&parent, header("tracestate").as_deref()))
            .unwrap_or_else(|| TraceContext::root(false));
        Ok(Self {
            id: body.id,
            epoch: body.epoch,
            trace,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut trace = TraceContext::root(true);
        trace.tracestate = Some("a=b".to_owned());
        let message = Message {
            id: Uuid::now_v7(),
            epoch: 7,
            trace,
        };
        let (body, properties) = message.encode();
        assert_eq!(Message::decode(&body, &properties).unwrap(), message);
    }

    #[test]
    fn what_cannot_be_read_is_said_without_its_content() {
        let error = Message::decode(b"{\"id\": \"personal\"}", &BasicProperties::default()).unwrap_err();
        assert!(!error.to_string().contains("personal"));
    }
}
