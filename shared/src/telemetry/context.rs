//! W3C trace context: read at the door, stored with the receipt, sent with every call and message.

use std::fmt::Write;
use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// `traceparent` and `tracestate` as they are stored and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// `00-<trace id>-<span id>-<flags>`.
    pub traceparent: String,
    /// As the caller sent it.
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// Reads the caller's headers; `None` if they are not W3C trace context.
    #[must_use]
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let context = Self {
            traceparent: traceparent.to_ascii_lowercase(),
            tracestate: tracestate.map(str::to_owned),
        };
        context.span_context().is_some().then_some(context)
    }

    /// A new trace.
    #[must_use]
    pub fn root(sampled: bool) -> Self {
        let trace = TraceId::from(rand::random::<u128>() | 1);
        let flags = u8::from(sampled);
        Self {
            traceparent: format!("00-{trace}-{}-{flags:02x}", SpanId::from(rand::random::<u64>() | 1)),
            tracestate: None,
        }
    }

    /// The context of `span`, with which a trace begins; one of its own while no spans are made, sampled or not by the same
    /// `ratio`, so that what others trace of it later is whole.
    #[must_use]
    pub fn begun(span: &Span, ratio: f64) -> Self {
        let root = Self::root(rand::random::<f64>() < ratio);
        let context = root.of(span);
        if context.trace_id() == root.trace_id() {
            root
        } else {
            context
        }
    }

    /// Another span of the same trace, for when no span is exported.
    #[must_use]
    pub fn child(&self) -> Self {
        let flags = self.traceparent.get(53..55).unwrap_or("00");
        let span = SpanId::from(rand::random::<u64>() | 1);
        // With its room at once: there are two a call.
        let mut traceparent = String::with_capacity(self.traceparent.len());
        let _ = write!(traceparent, "00-{}-{span}-{flags}", self.trace_id());
        Self {
            traceparent,
            tracestate: self.tracestate.clone(),
        }
    }

    /// The trace id, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.traceparent.get(3..35).unwrap_or_default()
    }

    /// The context of `span`, or a child of this one while no traces are exported.
    #[must_use]
    pub fn of(&self, span: &Span) -> Self {
        if span.is_disabled() {
            return self.child();
        }
        let context = span.context();
        let span = context.span();
        let span = span.span_context();
        if span.is_valid() {
            Self {
                traceparent: format!(
                    "00-{}-{}-{:02x}",
                    span.trace_id(),
                    span.span_id(),
                    span.trace_flags().to_u8()
                ),
                tracestate: self.tracestate.clone(),
            }
        } else {
            self.child()
        }
    }

    /// Makes `span` a child of this context. Call it before the span is entered.
    pub fn adopt(&self, span: &Span) {
        if span.is_disabled() {
            return;
        }
        if let Some(parent) = self.span_context() {
            // An error says that no traces are exported: then there is no parent to set.
            let _ = span.set_parent(Context::new().with_remote_span_context(parent));
        }
    }

    /// Links `span` to this context: to whom its trace is not continued from, or, as messaging conventions ask, beside the
    /// parent.
    pub fn link(&self, span: &Span) {
        if span.is_disabled() {
            return;
        }
        if let Some(context) = self.span_context() {
            span.add_link(context);
        }
    }

    /// Records a span of this context that is over, if its trace is sampled.
    pub fn past(
        &self,
        name: &'static str,
        (since, until): (SystemTime, SystemTime),
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) {
        if !super::is_on() {
            return;
        }
        let Some(parent) = self.span_context().filter(SpanContext::is_sampled) else {
            return;
        };
        let builder = SpanBuilder::from_name(name)
            .with_start_time(since)
            .with_attributes(attributes());
        let tracer = opentelemetry::global::tracer("chekhov");
        let mut span = tracer.build_with_context(builder, &Context::new().with_remote_span_context(parent));
        // Clocks of two machines may differ by more than it took.
        span.end_with_timestamp(until.max(since));
    }

    fn span_context(&self) -> Option<SpanContext> {
        let text = &self.traceparent;
        if text.len() < 55 || !text.is_ascii() || text.starts_with("ff") || (text.starts_with("00") && text.len() != 55)
        {
            return None;
        }
        let mut parts = text.split('-');
        parts.next().filter(|version| version.len() == 2)?;
        let trace = TraceId::from_hex(parts.next().filter(|id| id.len() == 32)?).ok()?;
        let span = SpanId::from_hex(parts.next().filter(|id| id.len() == 16)?).ok()?;
        let flags = u8::from_str_radix(parts.next().filter(|flags| flags.len() == 2)?, 16).ok()?;
        let state = self
            .tracestate
            .as_deref()
            .and_then(|state| state.parse::<TraceState>().ok())
            .unwrap_or_default();
        let context = SpanContext::new(trace, span, TraceFlags::new(flags & 1), true, state);
        context.is_valid().then_some(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_can_be_read_back_and_has_children_of_the_same_trace() {
        let root = TraceContext::root(true);
        assert_eq!(TraceContext::read(&root.traceparent, None), Some(root.clone()));
        let child = root.child();
        assert_eq!(child.trace_id(), root.trace_id());
        assert_ne!(child.traceparent, root.traceparent);
    }

    #[test]
    fn what_is_no_trace_context_is_not_continued() {
        let root = TraceContext::root(false).traceparent;
        let zero = format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16));
        for wrong in [
            "",
            "00",
            &root[..54],
            &zero,
            &root.replace("00-", "ff-"),
            &format!("{root}-x"),
        ] {
            assert_eq!(TraceContext::read(wrong, None), None, "{wrong}");
        }
    }
}
