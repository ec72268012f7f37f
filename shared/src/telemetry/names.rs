//! Names of attributes: OpenTelemetry's, as constants of its conventions, and our own.

pub use opentelemetry_semantic_conventions::attribute::{
    ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_REQUEST_RESEND_COUNT, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE,
    MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME,
    MESSAGING_OPERATION_TYPE, MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY, MESSAGING_SYSTEM, SERVER_ADDRESS,
    SERVER_PORT, SERVICE_INSTANCE_ID, SERVICE_PEER_NAME, SERVICE_VERSION, URL_FULL, URL_TEMPLATE,
};

/// The receipt, by our id.
pub const RECEIPT_ID: &str = "receipt.id";
/// The stage of an attempt or a call.
pub const STAGE: &str = "chekhov.stage";
/// The attempt's number at its stage, from 1. No other span has it.
pub const ATTEMPT: &str = "chekhov.attempt";
/// What an attempt came to.
pub const OUTCOME: &str = "chekhov.outcome";
/// The request of a call.
pub const REQUEST: &str = "chekhov.request";
/// What a receipt waited for: `timer`, `turn`, `queue`, `original` or `person`.
pub const WAIT_KIND: &str = "chekhov.wait.kind";
/// Why, in our words alone.
pub const WAIT_REASON: &str = "chekhov.wait.reason";

/// Not an attribute: how a span's status is set through `tracing`.
pub const STATUS: &str = "otel.status_code";
