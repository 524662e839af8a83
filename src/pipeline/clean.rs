//! Is it clean: what the guard says of a request on its way, and of what comes back for it.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::json;

use crate::{
    call::event::ServerNotification,
    guard::{GuardRefusal, Linked, ToolSchemas, spoken},
    mcp::{
        document::CallArguments, message::Body, method::Method, raw::Raw, result, splice,
        target::TargetRef, version::Era,
    },
    telemetry::{Counter, throttle},
};

use super::{Back, Context, Fault, Out, Reply, admit, back::Stage, resolve, resolve::Resolved};

/// Judges what is sent on, and cleans it.
///
/// # Errors
/// Where its arguments are not what the tool takes, are too large, or have what must not pass.
pub async fn request(context: &Context, resolved: &mut Resolved) -> Result<(), Fault> {
    let call = &context.call;
    let tool = resolved.target.tool.as_ref().filter(|_| call.method == Method::ToolsCall);
    let made = || Arc::new(CallArguments::of(&resolved.params));
    let arguments = resolved.arguments.clone().unwrap_or_else(made);
    let judged = if resolved.guard.takes_long(&resolved.params) {
        // Boxed: rare.
        Box::pin(judged_aside(context, resolved, tool, arguments)).await
    } else {
        let tool = tool.map(|tool| &**tool);
        resolved.guard.admit(&resolved.params, &arguments, tool, &context.gate.schemas)
    };
    resolved.arguments = None;
    let params = judged.map_err(Fault::Guard)?;
    if params != resolved.params {
        resolved.params = params;
        resolved.mirror(call);
    }
    Ok(())
}

/// Judges what is large on a thread beside those that serve.
async fn judged_aside(
    context: &Context,
    resolved: &Resolved,
    tool: Option<&Arc<ToolSchemas>>,
    arguments: Arc<CallArguments>,
) -> Result<Raw, GuardRefusal> {
    let guard = resolved.guard.clone();
    let params = resolved.params.clone();
    let tool = tool.cloned();
    let schemas = Arc::clone(&context.gate.schemas);
    let judging = move || guard.admit(&params, &arguments, tool.as_deref(), &schemas);
    let judged = context.gate.schemas.workers().run(judging).await;
    judged.unwrap_or_else(|| Err(resolved.guard.late()))
}

/// Answers a read of a result that was kept for its caller; none where it is about something else.
///
/// # Errors
/// Where there is no such result any more, or it is another caller's.
pub async fn linked(context: &Context) -> Result<Option<Reply>, Fault> {
    let call = &context.call;
    let TargetRef::Uri(uri) = &call.named else { return Ok(None) };
    if call.method != Method::ResourcesRead || !Linked::is_link(uri) {
        return Ok(None);
    }
    admit::here(context).await?;
    let found = context.gate.linked.find((context.path(), &call.caller), uri);
    let result = found.ok_or_else(|| resolve::unknown(call))?;
    let content = json!({ "uri": uri, "mimeType": "application/json", "text": result.as_str() });
    let contents = Raw::encode(&json!({ "contents": [content] }));
    let hints: [(&str, Option<&[u8]>); 3] = [
        ("resultType", Some(b"\"complete\"")),
        ("ttlMs", Some(b"0")),
        ("cacheScope", Some(b"\"private\"")),
    ];
    let modern = call.client.era() == Era::Modern;
    let contents = if modern { splice::edit(&contents, &hints) } else { contents };
    Ok(Some(Reply::Answer(Body::Result(contents))))
}

/// A large result that is being judged.
pub struct Checking {
    pub judged: BoxFuture<'static, Option<Result<Raw, GuardRefusal>>>,
    result: Raw,
    /// Where the call stood when it was answered.
    before: Box<Stage>,
    after: After,
}

/// What is done with a result once it may pass.
#[derive(Debug, Clone, Copy)]
pub enum After {
    /// It answers the call, with this status.
    Answer(u16),
    /// It is that of a server's task, and ends the call.
    Task,
}

impl fmt::Debug for Checking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checking").field("after", &self.after).finish_non_exhaustive()
    }
}

impl Back {
    /// What the server says, as it may pass.
    ///
    /// # Errors
    /// Where it must not.
    pub(super) fn heard_of(&self, said: &Raw) -> Result<Raw, Fault> {
        self.resolved.guard.scan(said).map_err(Fault::Guard)
    }

    /// A notification as it may pass; none where it must not.
    pub(super) fn clean_notice(&self, notice: &ServerNotification) -> Option<Raw> {
        let clean = self.resolved.guard.scan(&notice.whole);
        clean.inspect_err(|_| self.context.gate.counters.add(Counter::NoticesWithheld)).ok()
    }

    /// What the server answered, as it may pass; none where that takes a while, and the call goes
    /// on with what is found at [`Back::checked`].
    ///
    /// # Errors
    /// Where it has what must not pass, is too large, or is not what the tool promises.
    pub(super) fn cleaned(&mut self, body: Body, after: After) -> Result<Option<Body>, Fault> {
        let result = match body {
            Body::Error(error) => return Ok(Some(Body::Error(self.heard_of(&error)?))),
            Body::Result(result) => result,
        };
        let guard = &self.resolved.guard;
        if !guard.links || self.context.call.method != Method::ToolsCall {
            guard.check_size(&result).map_err(|refusal| self.too_large(refusal))?;
        }
        if guard.takes_long_with(&result) {
            self.check_aside(result, after);
            return Ok(None);
        }
        let judged = guard.judge_result(
            &result,
            self.tool().map(|tool| &**tool),
            &self.context.gate.schemas,
        );
        self.passed(judged, &result).map(Some)
    }

    /// Has a large result judged on a thread beside those that serve.
    fn check_aside(&mut self, result: Raw, after: After) {
        let guard = self.resolved.guard.clone();
        let tool = self.tool().cloned();
        let schemas = Arc::clone(&self.context.gate.schemas);
        let of = result.clone();
        let workers = schemas.workers();
        let judging = move || guard.judge_result(&result, tool.as_deref(), &schemas);
        let judged = Box::pin(async move { workers.run(judging).await });
        let before = Box::new(std::mem::replace(&mut self.stage, Stage::Over));
        self.stage = Stage::Checking(Checking { judged, result: of, before, after });
    }

    /// Goes on with a result that was judged beside.
    pub(super) fn checked(
        &mut self,
        judged: Option<Result<Raw, GuardRefusal>>,
    ) -> Result<Option<Out>, Fault> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Checking(Checking { result, before, after, .. }) = stage else {
            return Err(self.context.bug("a result that nobody had judged was judged"));
        };
        self.stage = *before;
        let late = || Err(self.resolved.guard.late_result());
        let body = self.passed(judged.unwrap_or_else(late), &result)?;
        match after {
            After::Answer(status) => self.clean_answer(body, status),
            After::Task => Ok(Some(self.end(body, 200))),
        }
    }

    /// What a judged result is to the client: a link where it is too large.
    fn passed(&self, judged: Result<Raw, GuardRefusal>, result: &Raw) -> Result<Body, Fault> {
        let clean = judged.map_err(|refusal| self.unfit(refusal))?;
        match self.resolved.guard.check_size(result) {
            Ok(()) => Ok(Body::Result(clean)),
            Err(refusal) => self.link(clean, refusal).map(Body::Result),
        }
    }

    /// The tool that is called, if that is what is done.
    fn tool(&self) -> Option<&Arc<ToolSchemas>> {
        self.resolved.target.tool.as_ref().filter(|_| self.context.call.method == Method::ToolsCall)
    }

    fn unfit(&self, refusal: GuardRefusal) -> Fault {
        let (upstream, tool) = (self.upstream.name(), &self.resolved.target.own);
        if !matches!(refusal, GuardRefusal::Blocked(..)) {
            throttle::line(("a result", upstream, tool), |more| {
                tracing::warn!(upstream, tool, %refusal, more, "a result is not what it should be");
            });
        }
        Fault::Guard(refusal)
    }

    fn too_large(&self, refusal: GuardRefusal) -> Fault {
        self.context.gate.counters.add(Counter::RefusedResultBytes);
        Fault::Guard(refusal)
    }

    /// A link in place of a result that is too large.
    fn link(&self, result: Raw, refusal: GuardRefusal) -> Result<Raw, Fault> {
        let limits = self.context.limits();
        let bytes = result.bytes().len();
        let failed = result::is_error(&result);
        let place = (self.context.path(), self.context.caller());
        let Some(uri) = self.context.gate.linked.keep(place, result, limits) else {
            return Err(self.too_large(refusal));
        };
        self.context.gate.counters.add(Counter::Linked);
        let message = format!(
            "The answer has {bytes} bytes, too many to be handed out at once. For {} you can read \
             it, whole, as the resource {uri}, or ask for less.",
            spoken(limits.linked_age)
        );
        let linked = json!({
            "content": [
                { "type": "text", "text": message },
                {
                    "type": "resource_link",
                    "uri": uri,
                    "name": format!("result of {}", self.resolved.target.own),
                    "mimeType": "application/json",
                    "size": bytes,
                },
            ],
        });
        let promises = self.resolved.target.tool.as_deref().is_some_and(|tool| tool.has_output());
        // Its clients hold all that is no failure to the form that the tool promises.
        let said = json!({ "error": refusal.word(), "message": message, "retriable": false });
        let said = Raw::encode(&said);
        let edits = [
            promises.then_some(("structuredContent", Some(said.bytes().as_ref()))),
            (promises || failed).then_some(("isError", Some(b"true".as_slice()))),
        ];
        let edits: Vec<_> = edits.into_iter().flatten().collect();
        let linked = splice::edit(&Raw::encode(&linked), &edits);
        let complete: &[(&str, Option<&[u8]>)] = &[("resultType", Some(b"\"complete\""))];
        let modern = self.era == Era::Modern;
        Ok(if modern { splice::edit(&linked, complete) } else { linked })
    }
}
