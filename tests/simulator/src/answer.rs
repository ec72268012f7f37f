//! An answer before it becomes an HTTP response.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;

use crate::ways::Milestone;

/// Status, body and the few headers a simulated service sends.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    retry_after: Option<HeaderValue>,
    body: Bytes,
    /// What its receipt has reached once this is answered.
    pub(crate) milestone: Option<Milestone>,
}

impl Answer {
    /// A JSON answer.
    pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => Self::raw(status, "application/json", bytes),
            Err(error) => Self::raw(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        }
    }

    /// 200 and a JSON body.
    pub(crate) fn ok(body: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, body)
    }

    /// The fiscal API's shape of an error.
    pub(crate) fn error(status: StatusCode, code: i32, kind: &str, text: &str) -> Self {
        Self::json(status, &json!({"error": {"code": code, "text": text, "type": kind}}))
    }

    /// An answer of any bytes.
    pub(crate) fn raw(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type,
            retry_after: None,
            body: body.into(),
            milestone: None,
        }
    }

    /// Says what its receipt has reached with it.
    pub(crate) fn reaching(mut self, milestone: Option<Milestone>) -> Self {
        self.milestone = milestone;
        self
    }

    /// Adds `Retry-After`.
    pub(crate) fn retry_after(mut self, value: Option<HeaderValue>) -> Self {
        self.retry_after = value;
        self
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some(value) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        response
    }
}
