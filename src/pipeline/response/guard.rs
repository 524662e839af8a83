//! The guard's checks of all that a server says in a call.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use serde_json::json;

use crate::{
    call::{
        event::{Event, ServerNotification, ServerRequest},
        spans::{SpanGuard, Stage},
    },
    guard::{GuardRefusal, ToolSchemas, spoken},
    mcp::{message::Body, method::Method, raw::Raw, result::ResultBody, splice, version::Era},
    pipeline::{
        context::Context,
        event::ClientEvent,
        fault::Fault,
        request::{resolve::Resolved, visibility},
        tasks::server::ServerTask,
    },
    telemetry::{Counter, throttle},
    upstream::Reservation,
};

use super::{resend::Resend, server_messages};

/// Yields what may pass of what the server says.
#[derive(Debug)]
pub struct Guarded {
    pub server_task: ServerTask,
    /// A large result that is being judged on a thread beside those that serve.
    judging: Option<Judging>,
    /// The bytes that such a result counts as, until the call is over.
    reservation: Option<Arc<Reservation>>,
}

struct Judging {
    judged: BoxFuture<'static, Option<Result<Raw, GuardRefusal>>>,
    result: ResultBody,
    status: u16,
    /// The span of it, until it ends.
    _span: Option<SpanGuard>,
}

impl Guarded {
    pub fn new(server_task: ServerTask) -> Self {
        Self { server_task, judging: None, reservation: None }
    }

    pub fn resend(&self) -> &Resend {
        &self.server_task.coalescing.resend
    }

    pub fn resend_mut(&mut self) -> &mut Resend {
        &mut self.server_task.coalescing.resend
    }

    fn request(&self) -> &Resolved {
        &self.resend().request
    }

    /// Yields the next event of the call. Safe to drop.
    ///
    /// # Errors
    /// Where the server fails, or its answer must not pass.
    pub async fn next(&mut self, context: &Context) -> Result<Event, Fault> {
        loop {
            if let Some(judging) = &mut self.judging {
                let judged = (&mut judging.judged).await;
                return self.judged(context, judged);
            }
            let event = match self.server_task.next(context).await? {
                Event::Answer { body, status } => {
                    let body = self.check(context, body, status)?;
                    body.map(|body| Event::Answer { body, status })
                }
                Event::Notification(notice) => {
                    self.notice(context, notice).map(Event::Notification)
                }
                Event::ServerRequest(question) => self.request_as_it_may_pass(question),
                event @ Event::Resumable { .. } => Some(event),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// A server's request. One that must not pass is refused as one that nobody hears: by being
    /// dropped.
    fn request_as_it_may_pass(&self, question: ServerRequest) -> Option<Event> {
        let params = self.scan(&question.params).ok()?;
        Some(Event::ServerRequest(ServerRequest { params, ..question }))
    }

    /// Returns what the server says, as it may pass.
    fn scan(&self, said: &Raw) -> Result<Raw, Fault> {
        self.request().guard.scan(said).map_err(Fault::Guard)
    }

    /// A notification that is for this client, as it may pass; none where it must not.
    fn notice(&self, context: &Context, notice: ServerNotification) -> Option<ServerNotification> {
        if notice.method == Some(Method::Cancelled) {
            return Some(notice);
        }
        context.snapshot.heard(self.resend().upstream.name(), &notice);
        if !server_messages::is_wanted(context, self.resend().era, &notice) {
            return None;
        }
        let clean = self.request().guard.scan(&notice.whole);
        let clean = clean.inspect_err(|_| context.gate.counters.add(Counter::NoticesWithheld));
        Some(ServerNotification { whole: clean.ok()?, ..notice })
    }

    /// Returns what the server answered, as it may pass; none where judging that takes a while.
    fn check(&mut self, context: &Context, body: Body, status: u16) -> Result<Option<Body>, Fault> {
        if visibility::is_missing(context, &self.request().target, &body) {
            return Err(visibility::unlisted(context));
        }
        let result = match body {
            Body::Error(error) => return Ok(Some(Body::Error(self.scan(&error)?))),
            Body::Result(result) => result,
        };
        let guard = &self.request().guard;
        if !guard.links || context.call.method != Method::ToolsCall {
            guard.check_size(&result).map_err(|refusal| Self::too_large(context, refusal))?;
        }
        if guard.takes_long_with(&result) {
            self.judge_aside(context, result, status);
            return Ok(None);
        }
        let tool = self.tool(context).map(|tool| &**tool);
        let judged = guard.judge_result(&result, tool, &context.gate.schemas);
        self.passed(context, judged, result).map(Some)
    }

    /// Has a large result judged on a thread beside those that serve.
    fn judge_aside(&mut self, context: &Context, result: ResultBody, status: u16) {
        let guard = self.request().guard.clone();
        let tool = self.tool(context).cloned();
        let schemas = Arc::clone(&context.gate.schemas);
        let workers = schemas.workers();
        let whole = Raw::from(result.clone());
        // The thread may be at work for longer than anybody waits: what it holds counts until then.
        self.reservation = self.resend_mut().take_reservation().map(Arc::new);
        let held = self.reservation.clone();
        let judging = move || {
            let judged = guard.judge_result(&whole, tool.as_deref(), &schemas);
            drop((whole, held));
            judged
        };
        let judged = Box::pin(async move { workers.run(judging).await });
        let span = context.stage(Stage::Result);
        self.judging = Some(Judging { judged, result, status, _span: span });
    }

    /// Goes on with a result that was judged aside.
    fn judged(
        &mut self,
        context: &Context,
        judged: Option<Result<Raw, GuardRefusal>>,
    ) -> Result<Event, Fault> {
        let Some(Judging { result, status, .. }) = self.judging.take() else {
            return Err(context.bug("a result that nobody had judged was judged"));
        };
        let judged = judged.unwrap_or_else(|| Err(self.request().guard.late_result()));
        let body = self.passed(context, judged, result)?;
        Ok(Event::Answer { body, status })
    }

    /// Returns what a judged result is to the client: a link where it is too large.
    fn passed(
        &self,
        context: &Context,
        judged: Result<Raw, GuardRefusal>,
        result: ResultBody,
    ) -> Result<Body, Fault> {
        let clean = judged.map_err(|refusal| self.unfit(refusal))?;
        let size = self.request().guard.check_size(&result);
        let clean = result.with_text(clean);
        match size {
            Ok(()) => Ok(Body::Result(clean)),
            Err(refusal) => self.link(context, clean, refusal).map(Body::Result),
        }
    }

    /// The tool that is called, if that is what is done.
    fn tool(&self, context: &Context) -> Option<&Arc<ToolSchemas>> {
        let tool = self.request().target.tool.as_ref();
        tool.filter(|_| context.call.method == Method::ToolsCall)
    }

    fn unfit(&self, refusal: GuardRefusal) -> Fault {
        let upstream = self.resend().upstream.name().as_str();
        let tool = &self.request().target.own;
        if !matches!(refusal, GuardRefusal::Blocked(..)) {
            throttle::line(("a result", upstream, tool), |more| {
                tracing::warn!(upstream, tool, %refusal, more, "a result is not what it should be");
            });
        }
        Fault::Guard(refusal)
    }

    fn too_large(context: &Context, refusal: GuardRefusal) -> Fault {
        context.gate.counters.add(Counter::RefusedResultBytes);
        Fault::Guard(refusal)
    }

    /// A link in place of a result that is too large.
    fn link(
        &self,
        context: &Context,
        result: ResultBody,
        refusal: GuardRefusal,
    ) -> Result<ResultBody, Fault> {
        let limits = context.limits();
        let bytes = result.bytes().len();
        let failed = result.is_error();
        let kept =
            context.gate.linked.keep(context.path(), context.caller(), result.into(), limits);
        let Some(uri) = kept else {
            return Err(Self::too_large(context, refusal));
        };
        context.gate.counters.add(Counter::Linked);
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
                    "name": format!("result of {}", self.request().target.own),
                    "mimeType": "application/json",
                    "size": bytes,
                },
            ],
        });
        let promises = self.request().target.tool.as_deref().is_some_and(|tool| tool.has_output());
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
        let modern = self.resend().era == Era::Modern;
        Ok(if modern { splice::edit(&linked, complete) } else { linked }.into())
    }

    /// Ends the call; what a client is told of questions that nobody needs an answer to any more.
    pub fn cancel(&mut self, reason: Option<String>) -> Vec<ClientEvent> {
        self.judging = None;
        self.server_task.cancel(reason)
    }

    /// Whether something may come of itself: nothing is judged, and the server may say more.
    pub fn is_listening(&self) -> bool {
        self.judging.is_none() && self.server_task.is_listening()
    }
}

impl fmt::Debug for Judging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judging").field("status", &self.status).finish_non_exhaustive()
    }
}
