//! Which spans are exported: those of sampled traces, and of the others the attempts that failed, with their calls.
//!
//! A trace is sampled or not where it begins; the decision is in the flags of the context that is stored with the receipt and
//! sent with every message and call, and whoever goes on keeps it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceId};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    Sampler, SamplingDecision, SamplingResult, ShouldSample, Span, SpanData, SpanProcessor,
};

use super::names::{ATTEMPT, STAGE};

/// The parent's decision, or the ratio's where a trace begins. What may fail is recorded in any case.
#[derive(Debug, Clone)]
pub(super) struct Sampling(Sampler);

impl Sampling {
    /// Samples so many of the traces that begin here, from 0 to 1.
    pub(super) fn new(ratio: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let mut result = self.0.should_sample(parent, trace_id, name, kind, attributes, links);
        if result.decision == SamplingDecision::Drop && (has(attributes, ATTEMPT) || has(attributes, STAGE)) {
            result.decision = SamplingDecision::RecordOnly;
        }
        result
    }
}

fn has(attributes: &[KeyValue], name: &str) -> bool {
    attributes.iter().any(|attribute| attribute.key.as_str() == name)
}

/// The calls that are held at once, in all. Attempts in flight are bounded, so more are left only by attempts that were
/// never recorded.
const HELD: usize = 4096;
/// The calls that are held of one attempt.
const OF_ONE: usize = 32;

/// Passes on what is sampled, and of the rest the attempts that failed, with their calls: those are held until their attempt
/// ends.
#[derive(Debug)]
pub(super) struct Failures<P> {
    next: P,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    calls: HashMap<SpanId, Vec<SpanData>>,
    count: usize,
}

impl Held {
    fn hold(&mut self, call: SpanData) {
        if self.count >= HELD {
            *self = Self::default();
        }
        let of_one = self.calls.entry(call.parent_span_id).or_default();
        if of_one.len() < OF_ONE {
            of_one.push(call);
            self.count += 1;
        }
    }

    fn take(&mut self, attempt: SpanId) -> Vec<SpanData> {
        let calls = self.calls.remove(&attempt).unwrap_or_default();
        self.count -= calls.len();
        calls
    }
}

impl<P> Failures<P> {
    pub(super) fn before(next: P) -> Self {
        Self {
            next,
            held: Mutex::default(),
        }
    }
}

impl<P: SpanProcessor> SpanProcessor for Failures<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() {
            return self.next.on_end(span);
        }
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !has(&span.attributes, ATTEMPT) {
            return held.hold(span);
        }
        let calls = held.take(span.span_context.span_id());
        drop(held);
        if matches!(span.status, Status::Error { .. }) {
            for span in calls.into_iter().chain([span]) {
                self.next.on_end(sampled(span));
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// As it is exported: whoever receives it must not drop it for its flags.
fn sampled(mut span: SpanData) -> SpanData {
    let context = &span.span_context;
    span.span_context = SpanContext::new(
        context.trace_id(),
        context.span_id(),
        context.trace_flags().with_sampled(true),
        context.is_remote(),
        context.trace_state().clone(),
    );
    span
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use opentelemetry::trace::{Span as _, TraceContextExt, TraceFlags, TraceState, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    /// Keeps the names of what is passed on.
    #[derive(Debug, Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl SpanProcessor for Seen {
        fn on_start(&self, _: &mut Span, _: &Context) {}

        fn on_end(&self, span: SpanData) {
            assert!(span.span_context.is_sampled());
            self.0.lock().unwrap().push(span.name.into_owned());
        }

        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    fn parent(sampled: bool) -> Context {
        let flags = TraceFlags::default().with_sampled(sampled);
        let state = TraceState::default();
        let context = SpanContext::new(TraceId::from(7_u128), SpanId::from(7_u64), flags, true, state);
        Context::new().with_remote_span_context(context)
    }

    /// What is exported of an attempt with two calls and something that cannot fail, below `parent`.
    fn exported(ratio: f64, parent: &Context, fails: bool) -> Vec<String> {
        let seen = Seen::default();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampling::new(ratio))
            .with_span_processor(Failures::before(seen.clone()))
            .build();
        let tracer = provider.tracer("test");
        tracer.start_with_context("wait", parent).end();
        let builder = tracer
            .span_builder("attempt")
            .with_attributes([KeyValue::new(ATTEMPT, 1)]);
        let mut attempt = tracer.build_with_context(builder, parent);
        let within = Context::new().with_remote_span_context(attempt.span_context().clone());
        for name in ["first", "second"] {
            let call = tracer.span_builder(name).with_attributes([KeyValue::new(STAGE, "tax")]);
            tracer.build_with_context(call, &within).end();
        }
        if fails {
            attempt.set_status(Status::error(""));
        }
        attempt.end();
        seen.0.lock().unwrap().clone()
    }

    #[test]
    fn the_parents_decision_holds_whatever_the_ratio() {
        let all = ["wait", "first", "second", "attempt"];
        assert_eq!(exported(0.0, &parent(true), false), all);
        assert_eq!(exported(1.0, &parent(false), false), Vec::<String>::new());
        assert_eq!(exported(1.0, &Context::new(), false), all);
    }

    #[test]
    fn of_what_is_not_sampled_a_failed_attempt_is_exported_with_its_calls() {
        assert_eq!(exported(0.0, &parent(false), true), ["first", "second", "attempt"]);
        assert_eq!(exported(0.0, &Context::new(), true).last().unwrap(), "attempt");
    }

    #[test]
    fn calls_whose_attempt_never_ends_are_not_held_for_ever() {
        let provider = SdkTracerProvider::builder().with_sampler(Sampling::new(0.0)).build();
        let tracer = provider.tracer("test");
        let mut held = Held::default();
        for n in 1..=3 * HELD as u64 {
            let orphan = Context::new().with_remote_span_context(SpanContext::new(
                TraceId::from(7_u128),
                SpanId::from(n / 40 + 1),
                TraceFlags::default(),
                true,
                TraceState::default(),
            ));
            let call = tracer
                .span_builder("call")
                .with_attributes([KeyValue::new(STAGE, "tax")]);
            let call = tracer.build_with_context(call, &orphan).exported_data().unwrap();
            held.hold(call);
            let most = held.calls.values().map(Vec::len).max().unwrap();
            assert!(held.count <= HELD && most <= OF_ONE);
        }
    }
}
