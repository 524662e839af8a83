//! Decides which calls are traced, and hands those that are to be exported to the exporter.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    call::{
        TraceContext,
        spans::{CallSpans, SpanBounds},
    },
    telemetry::{Counter, Counters, Outcome, throttle},
};

use super::{
    facts::{EndedCall, EndedFacts},
    settings::TraceSettings,
};

/// Traces calls; shared by all of a gate.
#[derive(Debug)]
pub struct Tracer {
    sampled_below: u64,
    errors: bool,
    slow: Duration,
    stage_min: Duration,
    spans_max: usize,
    baggage: Vec<String>,
    queue: mpsc::Sender<EndedCall>,
    counters: Arc<Counters>,
}

impl Tracer {
    pub(super) fn new(
        settings: &TraceSettings,
        counters: &Arc<Counters>,
    ) -> (Self, mpsc::Receiver<EndedCall>) {
        let (queue, ended) = mpsc::channel(settings.queue_max);
        let tracer = Self {
            sampled_below: settings.sampled_below,
            errors: settings.errors,
            slow: settings.slow,
            stage_min: settings.stage_min,
            spans_max: settings.spans_max,
            baggage: settings.baggage.clone(),
            queue,
            counters: Arc::clone(counters),
        };
        (tracer, ended)
    }

    /// Begins to trace a call that came at `begun`, with the context that came with it.
    pub fn begin(&self, context: Option<&TraceContext>, begun: Instant) -> CallSpans {
        let parent = context.map(|context| context.parent);
        let mut spans = CallSpans::new(parent, begun);
        spans.is_sampled = parent.map_or_else(|| self.samples(&spans), |it| it.is_sampled);
        spans.bounds = SpanBounds {
            // Whether it will be slow is not known yet.
            is_kept: true,
            spans_max: self.spans_max,
            stage_min: self.stage_min,
        };
        if let Some(context) = context {
            spans.state.clone_from(&context.state);
            let baggage = context.baggage.as_ref();
            spans.baggage = baggage.and_then(|all| all.allowed(&self.baggage));
        }
        spans
    }

    /// Ends a call: it is exported where it is sampled, failed or was slow.
    pub(super) fn end(
        &self,
        spans: &Arc<CallSpans>,
        outcome: Outcome,
        facts: impl FnOnce() -> EndedFacts,
    ) {
        let is_wanted =
            spans.is_sampled || self.errors && is_error(outcome) || self.slow <= spans.age();
        if !is_wanted {
            return;
        }
        let ended = spans.end();
        self.counters.add_many(Counter::SpansDropped, ended.dropped);
        let call = EndedCall { spans: Arc::clone(spans), ended, outcome, facts: facts() };
        if self.queue.try_send(call).is_err() {
            self.counters.add(Counter::TracesDropped);
            throttle::line("traces dropped", |more| {
                tracing::warn!(
                    more,
                    "a trace is dropped: the collector takes too few \
                     (`queue_max` of `[telemetry]`)"
                );
            });
        }
    }

    fn samples(&self, spans: &CallSpans) -> bool {
        (spans.trace.low_bits() >> 1) < self.sampled_below
    }
}

/// Whether a call that ended so has failed, as its span says.
pub(super) fn is_error(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Ok | Outcome::InputRequired)
}
