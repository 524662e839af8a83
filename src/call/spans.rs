//! The spans of one call: what took time on its way, kept until the call ends, when it is decided
//! whether they are exported.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::mcp::method::Method;

use super::{
    clock,
    names::UpstreamName,
    trace::{SpanId, TraceId, TraceParent},
    trace_context::TraceState,
};

/// The spans of one call, and its place in its trace.
#[derive(Debug)]
pub struct CallSpans {
    pub trace: TraceId,
    /// The span of the whole call.
    pub id: SpanId,
    /// The client's span; none where the trace begins here.
    pub parent: Option<SpanId>,
    pub state: Option<TraceState>,
    /// The baggage that goes on to upstreams.
    pub baggage: Option<String>,
    /// Whether the trace is sampled, which is decided when it begins.
    pub is_sampled: bool,
    /// Whether the context that goes on is put in `_meta`: in the place of one that must not stay,
    /// or since the trace is sampled.
    pub is_in_meta: bool,
    pub bounds: SpanBounds,
    begun: Instant,
    begun_micros: u64,
    children: Mutex<Children>,
}

/// Bounds of what is kept of a call.
#[derive(Debug, Clone, Copy)]
pub struct SpanBounds {
    /// Whether there is anything to keep: where the call is not sampled, and neither errors nor
    /// slowness make up for that, there is not.
    pub is_kept: bool,
    pub spans_max: usize,
    /// The shortest time that makes a span of a stage.
    pub stage_min: Duration,
}

#[derive(Debug, Default)]
struct Children {
    spans: Vec<ChildSpan>,
    dropped: usize,
    /// The call has ended: what comes later belongs to nothing.
    has_ended: bool,
}

/// A part of a call that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildSpan {
    pub id: SpanId,
    pub kind: ChildKind,
    /// Since the call began.
    pub begun: Duration,
    pub took: Duration,
    /// The word of its error; none where it went well.
    pub error: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildKind {
    Stage(Stage),
    Send(Box<SentRequest>),
}

/// A request that was sent to an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentRequest {
    pub method: Method,
    /// The upstream's own name of a tool or a prompt.
    pub name: Option<String>,
    pub upstream: UpstreamName,
    /// The version of the protocol that is spoken.
    pub version: &'static str,
    /// "tcp" or "pipe", as OpenTelemetry's `network.transport` has it.
    pub transport: &'static str,
}

/// A stage of a call's way that may take time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Who calls: a token is verified, keys are fetched.
    Login,
    /// The target is found, and policies are asked.
    Policy,
    /// Arguments are held to schemas and detectors.
    Arguments,
    /// The limits of the route let it in.
    RouteLimits,
    /// A connection is found, or opened.
    Connection,
    /// The limits of the upstream let it in: the wait for a place above all.
    UpstreamLimits,
    /// A token for the upstream is fetched.
    Credential,
    /// The client is asked what the server wants to know.
    Question,
    /// A large result is held to schemas and detectors, and redacted.
    Result,
}

/// The parts of a call once it has ended.
#[derive(Debug)]
pub struct EndedSpans {
    pub children: Vec<ChildSpan>,
    pub dropped: usize,
    /// Microseconds since 1970.
    pub begun_micros: u64,
    pub took: Duration,
}

/// A span that is under way. It ends when it is dropped: a stage well, and a request as cancelled
/// unless somebody said how it ended.
#[derive(Debug)]
pub struct SpanGuard {
    spans: Arc<CallSpans>,
    id: SpanId,
    kind: Option<ChildKind>,
    begun: Instant,
    error: Option<&'static str>,
}

impl Stage {
    /// The name of its span.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Policy => "policy",
            Self::Arguments => "check arguments",
            Self::RouteLimits => "route limits",
            Self::Connection => "connect",
            Self::UpstreamLimits => "upstream limits",
            Self::Credential => "fetch credential",
            Self::Question => "ask client",
            Self::Result => "check result",
        }
    }
}

impl CallSpans {
    /// Begins the spans of a call that came at `begun`, in the trace of `parent` where it has one.
    pub fn new(parent: Option<TraceParent>, begun: Instant) -> Self {
        let age = u64::try_from(begun.elapsed().as_micros()).unwrap_or_default();
        Self {
            trace: parent.map_or_else(TraceId::random, |parent| parent.trace),
            id: SpanId::random(),
            parent: parent.map(|parent| parent.span),
            state: None,
            baggage: None,
            is_sampled: false,
            is_in_meta: false,
            bounds: SpanBounds { is_kept: true, spans_max: 64, stage_min: Duration::ZERO },
            begun,
            begun_micros: clock::unix_micros().saturating_sub(age),
            children: Mutex::default(),
        }
    }

    /// The context of what is sent in a span of this call.
    pub fn sent_in(&self, span: SpanId) -> TraceParent {
        TraceParent { trace: self.trace, span, is_sampled: self.is_sampled }
    }

    /// Begins the span of a stage; none where stages are not kept: a call that is not sampled has
    /// only the requests that it sends, and what these wait for.
    pub fn stage(self: &Arc<Self>, stage: Stage) -> Option<SpanGuard> {
        let waits = matches!(stage, Stage::Connection | Stage::UpstreamLimits | Stage::Question);
        let is_kept = self.bounds.is_kept && (self.is_sampled || waits);
        is_kept.then(|| self.guard(ChildKind::Stage(stage), None))
    }

    /// Begins the span of a request to an upstream.
    pub fn send(self: &Arc<Self>, request: impl FnOnce() -> SentRequest) -> Option<SpanGuard> {
        let kind = || ChildKind::Send(Box::new(request()));
        self.bounds.is_kept.then(|| self.guard(kind(), Some("cancelled")))
    }

    /// Notes a stage that is over.
    pub fn passed(&self, stage: Stage, begun: Instant, ended: Instant) {
        if self.is_sampled && self.bounds.is_kept {
            let took = ended.saturating_duration_since(begun);
            let begun = begun.saturating_duration_since(self.begun);
            let kind = ChildKind::Stage(stage);
            self.push(ChildSpan { id: SpanId::random(), kind, begun, took, error: None });
        }
    }

    /// The time since the call began.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ends the call, and takes its parts.
    pub fn end(&self) -> EndedSpans {
        let mut children = self.children.lock();
        children.has_ended = true;
        EndedSpans {
            children: std::mem::take(&mut children.spans),
            dropped: children.dropped,
            begun_micros: self.begun_micros,
            took: self.age(),
        }
    }

    fn guard(self: &Arc<Self>, kind: ChildKind, error: Option<&'static str>) -> SpanGuard {
        let spans = Arc::clone(self);
        let id = SpanId::random();
        let begun = Instant::now();
        SpanGuard { spans, id, kind: Some(kind), begun, error }
    }

    fn push(&self, span: ChildSpan) {
        let is_short = span.took < self.bounds.stage_min && span.error.is_none();
        if is_short && matches!(span.kind, ChildKind::Stage(_)) {
            return;
        }
        let mut children = self.children.lock();
        if children.has_ended {
            return;
        }
        if children.spans.len() < self.bounds.spans_max {
            children.spans.push(span);
        } else {
            children.dropped += 1;
        }
    }
}

impl SpanGuard {
    /// The span's id, for what is sent in it.
    pub fn id(&self) -> SpanId {
        self.id
    }

    /// Ends it, with the word of its error where it has one.
    pub fn end(mut self, error: Option<&'static str>) {
        self.error = error;
    }
}

impl Drop for SpanGuard {
    fn drop(&mut self) {
        let Some(kind) = self.kind.take() else { return };
        let took = self.begun.elapsed();
        let begun = self.begun.saturating_duration_since(self.spans.begun);
        self.spans.push(ChildSpan { id: self.id, kind, begun, took, error: self.error });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(is_sampled: bool, bounds: SpanBounds) -> Arc<CallSpans> {
        let spans = CallSpans::new(None, Instant::now());
        Arc::new(CallSpans { bounds, is_sampled, ..spans })
    }

    fn sent() -> SentRequest {
        SentRequest {
            method: Method::ToolsCall,
            name: None,
            upstream: "a".into(),
            version: "2025-11-25",
            transport: "tcp",
        }
    }

    #[test]
    fn what_is_kept_of_a_call_is_bounded_and_what_was_short_is_left_out() {
        let stage_min = Duration::from_millis(5);
        for spans_max in 1..12 {
            let bounds = SpanBounds { is_kept: true, spans_max, stage_min };
            let call = spans(true, bounds);
            for took in 0..10 {
                let begun = Instant::now();
                call.passed(Stage::Policy, begun, begun + Duration::from_millis(took));
            }
            let ended = call.end();
            assert_eq!(ended.children.len(), spans_max.min(5));
            assert_eq!(ended.dropped, 5_usize.saturating_sub(spans_max));
            assert!(ended.children.iter().all(|span| stage_min <= span.took));
            drop(call.stage(Stage::Policy));
            assert!(call.end().children.is_empty(), "nothing comes to a call that has ended");
        }
    }

    #[test]
    fn a_call_that_is_not_sampled_keeps_what_it_sent_and_waited_for() {
        for (is_sampled, is_kept, count) in [(true, true, 3), (false, true, 2), (false, false, 0)] {
            let bounds = SpanBounds { is_kept, spans_max: 9, stage_min: Duration::ZERO };
            let call = spans(is_sampled, bounds);
            drop(call.stage(Stage::Policy));
            drop(call.stage(Stage::Connection));
            drop(call.send(sent));
            let ended = call.end();
            assert_eq!(ended.children.len(), count);
            let of_send = ended.children.last().map(|span| span.error);
            assert!(of_send.is_none_or(|error| error == Some("cancelled")), "nobody said how");
        }
    }
}
