//! The audit record of a call: begun before anything is judged, told by whoever ends it.

use std::sync::Arc;

use crate::{
    audit::{AccessLine, Begun, Entry, Full},
    call::{CallId, TraceId},
    mcp::{method::Method, target::TargetRef},
    pipeline::{call::Call, context::Context, fault::Fault},
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
    let settings = context.snapshot.config.log;
    let key = context.gate.caller_key;
    let access = settings.access.then_some(AccessLine { settings, key });
    let audit = context.gate.audit.as_ref();
    if audit.is_none() && access.is_none() {
        return Ok(Some(Arc::new(Entry::unrecorded(call.method, metrics))));
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
    };
    match (audit, access) {
        (None, None) => Ok(None),
        (None, Some(access)) => Ok(Some(Arc::new(Entry::logged(&begun, access)))),
        (Some(audit), access) => {
            audit.begin(&begun, access).map(Some).map_err(|Full| Fault::Unrecorded)
        }
    }
}

/// The trace that a call is part of: what the message says comes before what its headers say.
fn trace_of(call: &Call) -> Option<TraceId> {
    let said = call.meta.traceparent.as_ref().and_then(|said| said.try_read::<String>());
    said.and_then(|said| TraceId::of_traceparent(&said)).or(call.trace)
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
