//! The audit record of a call: begun before anything is judged, told by whoever ends it.

use std::{cell::Cell, sync::Arc};

use tokio::time::Instant;

use crate::{
    audit::{AccessLine, Begun, Entry, Full},
    call::{
        CallId, TraceContext, TraceId, TraceParent,
        spans::{SpanGuard, Stage},
    },
    mcp::{
        index::Param,
        meta::{BAGGAGE, TRACE_STATE},
        method::Method,
        splice,
        target::TargetRef,
    },
    pipeline::{call::Call, context::Context, fault::Fault},
    trace::{CallFacts, TracedCall},
};

use super::resolve::Resolved;

/// Begins to observe a call, and to record it where calls are recorded; none where it is none that
/// asks for something.
///
/// # Errors
/// Where it could not be written, and no call goes unrecorded.
pub fn begin(context: &Context) -> Result<Option<Arc<Entry>>, Fault> {
    let call = &context.call;
    if !is_call(call.method) {
        return Ok(None);
    }
    let metrics = &context.route.metrics;
    let traced = traced(context);
    let settings = context.snapshot.config.log;
    let key = context.gate.caller_key;
    let access = settings.access.then_some(AccessLine { settings, key });
    let audit = context.gate.audit.as_ref();
    if audit.is_none() && access.is_none() {
        return Ok(Some(Arc::new(Entry::unrecorded(call.method, metrics).traced(traced))));
    }
    let name = match &call.named {
        TargetRef::Name(text)
        | TargetRef::Uri(text)
        | TargetRef::Task(text)
        | TargetRef::PromptReference(text)
        | TargetRef::TemplateReference(text) => Some(text.as_str()),
        TargetRef::Nothing => None,
    };
    let begun = Begun {
        id: call.request,
        caller: &call.caller,
        client: &call.client,
        route: context.path(),
        metrics,
        method: call.method,
        name,
        params: call.params.text(),
        peer: call.peer,
        trace: trace_of(call),
        traced: Cell::new(traced),
    };
    match (audit, access) {
        (None, None) => Ok(None),
        (None, Some(access)) => Ok(Some(Arc::new(Entry::logged(&begun, access)))),
        (Some(audit), access) => {
            audit.begin(&begun, access).map(Some).map_err(|Full| Fault::Unrecorded)
        }
    }
}

/// Begins to trace a call, where calls are traced and this is one that asks for something.
pub fn trace(context: &mut Arc<Context>) {
    let Some(tracer) = context.gate.tracer.clone().filter(|_| is_call(context.call.method)) else {
        return;
    };
    let call = &context.call;
    let in_meta = context_in_meta(call);
    let arrival = call.arrival.as_deref();
    let in_headers = arrival.and_then(|arrival| arrival.trace.as_ref());
    let begun = arrival.map_or_else(Instant::now, |arrival| arrival.begun);
    let mut spans = tracer.begin(in_meta.as_ref().or(in_headers), begun);
    // One that is not sampled may stay there as it came, but for baggage that is not to go on.
    let has_baggage = in_meta.as_ref().is_some_and(|context| context.baggage.is_some());
    spans.is_in_meta = spans.is_sampled || has_baggage;
    if let Some(arrival) = arrival {
        spans.passed(Stage::Login, arrival.begun, arrival.identified);
    }
    Arc::make_mut(context).call.spans = Some(Arc::new(spans));
}

/// The trace that a call is part of: what the message says comes before what its headers say.
fn trace_of(call: &Call) -> Option<TraceId> {
    if let Some(spans) = &call.spans {
        return Some(spans.trace);
    }
    let said = call.meta.traceparent.as_ref().and_then(|said| said.try_read::<String>());
    let parent = said.and_then(|said| TraceParent::read(&said));
    let in_headers = || Some(call.arrival.as_ref()?.trace.as_ref()?.parent);
    parent.or_else(in_headers).map(|parent| parent.trace)
}

/// The trace context in `_meta` of a call; none without a valid `traceparent` there.
fn context_in_meta(call: &Call) -> Option<TraceContext> {
    let parent = call.meta.traceparent.as_ref()?.try_read::<String>()?;
    let meta = call.params.member(Param::Meta)?;
    let text = |name| splice::member(&meta, name)?.try_read::<String>();
    TraceContext::new(&parent, text(TRACE_STATE).as_deref(), text(BAGGAGE).as_deref())
}

fn traced(context: &Context) -> Option<Box<TracedCall>> {
    let tracer = context.gate.tracer.as_ref()?;
    let call = &context.call;
    let facts = || CallFacts {
        id: call.id.clone(),
        request: call.request,
        route: context.path().clone(),
        method: call.method,
        params: call.params.clone(),
        version: call.client.version.as_str(),
    };
    call.spans.as_ref().map(|spans| Box::new(TracedCall::new(tracer, spans, facts())))
}

/// Whether calls of this method are recorded: those that are judged or sent on. Lists are cut to
/// what may be seen, and the rest is the gate's own talk with its clients.
#[allow(clippy::wildcard_enum_match_arm, reason = "a list of what is recorded")]
fn is_call(method: Method) -> bool {
    matches!(
        method,
        Method::ToolsCall
            | Method::PromptsGet
            | Method::ResourcesRead
            | Method::Complete
            | Method::Subscribe
            | Method::Unsubscribe
            | Method::Listen
            | Method::TasksGet
            | Method::TasksUpdate
            | Method::TasksCancel
            | Method::TasksResult
    )
}

impl Context {
    /// Tells the call's record something; nothing where there is none.
    pub fn record(&self, tell: impl FnOnce(&Entry)) {
        if let Some(entry) = &self.entry {
            tell(entry);
        }
    }

    /// Begins the span of a stage of the call; none where it is not traced.
    pub fn stage(&self, stage: Stage) -> Option<SpanGuard> {
        self.call.spans.as_ref()?.stage(stage)
    }

    /// The call in the records of the gate.
    pub fn record_id(&self) -> Option<CallId> {
        self.entry.as_ref().and_then(|entry| entry.id())
    }

    /// Records what the call is about, which is found now.
    pub fn record_target(&self, resolved: &Resolved) {
        if let Some(entry) = &self.entry {
            let target = &resolved.target;
            let tool = target.metrics.as_ref().filter(|_| self.call.method == Method::ToolsCall);
            entry.counted_by(&target.upstream.metrics, tool);
            entry.about(target.upstream.name(), &target.own);
        }
    }

    /// Records the call's arguments, which may pass.
    pub fn record_arguments(&self, resolved: &Resolved) {
        if let Some(entry) = &self.entry {
            entry.cleared(resolved.params.text());
        }
    }
}
