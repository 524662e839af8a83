//! The way back: what an upstream says during a call, in words that fit the client.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    call::event::{Event, Notice},
    mcp::{
        error::{ErrorObject, INVALID_PARAMS, RESOURCE_NOT_FOUND, URL_ELICITATION_REQUIRED},
        level,
        message::{self, Body},
        method::Method,
        older,
        raw::Raw,
        splice,
        version::Era,
    },
    session::Underway,
    snapshot::Route,
    upstream::{Exchange, SendError, Upstream},
};

use super::{
    Call, Fault,
    resolve::{self, Resolved},
};

/// A call under way upstream, read event by event. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub struct Back {
    route: Arc<Route>,
    call: Call,
    resolved: Resolved,
    upstream: Arc<Upstream>,
    /// None once it was cancelled.
    exchange: Option<Exchange>,
    /// The era spoken to the upstream.
    era: Era,
    /// Ends with the call; none for a client without sessions.
    underway: Option<Underway>,
    /// The client can be asked nothing.
    refuses: bool,
    /// Nothing came yet: a session that the upstream forgot may be opened anew.
    fresh: bool,
}

/// What goes to the client.
#[derive(Debug)]
pub enum Out {
    /// A notification or a question, whole.
    Message(Bytes),
    /// The end.
    Answer { body: Body, status: u16 },
    /// The client is to come back for the rest after this long (legacy).
    Paused(Duration),
}

impl Back {
    pub(super) async fn send(
        route: &Arc<Route>,
        call: Call,
        resolved: Resolved,
    ) -> Result<Self, Fault> {
        let underway = match &call.session {
            Some(session) => Some(session.begin(&call.id).ok_or(Fault::DuplicateId)?),
            None => None,
        };
        let upstream = Arc::clone(&resolved.target.upstream);
        let sent = upstream.send(&resolved.ask(&call)).await;
        let exchange = sent.map_err(|error| Fault::Upstream { method: call.method, error })?;
        let (era, route) = (exchange.era, Arc::clone(route));
        Ok(Self {
            route,
            call,
            resolved,
            upstream,
            exchange: Some(exchange),
            era,
            underway,
            refuses: false,
            fresh: true,
        })
    }

    /// What the client gets next; after an answer or a fault there is no more.
    ///
    /// Safe to drop: the exchange keeps what it has.
    pub async fn next(&mut self) -> Result<Out, Fault> {
        loop {
            let event = self.event().await?;
            let fresh = std::mem::replace(&mut self.fresh, false);
            match event {
                Ok(event) => match self.fit(event)? {
                    Some(out) => return Ok(out),
                    None => continue,
                },
                // It was not processed: once more, on a session opened anew.
                Err(SendError::SessionGone) if fresh => {
                    let sent = self.upstream.send(&self.resolved.ask(&self.call)).await;
                    self.exchange = Some(sent.map_err(|error| self.fault(error))?);
                }
                Err(error) => return Err(self.fault(self.upstream.failed(error))),
            }
        }
    }

    /// What the upstream says next, unless the client cancels before.
    async fn event(&mut self) -> Result<Result<Event, SendError>, Fault> {
        let Some(exchange) = &mut self.exchange else { return Err(Fault::Cancelled) };
        let Some(underway) = &self.underway else { return Ok(exchange.next().await) };
        let reason = tokio::select! {
            // Both keep what they have when dropped.
            event = exchange.next() => return Ok(event),
            reason = underway.cancelled() => reason,
        };
        self.cancel(reason);
        Err(Fault::Cancelled)
    }

    fn cancel(&mut self, reason: Option<String>) {
        if let Some(exchange) = self.exchange.take() {
            match reason {
                Some(reason) => exchange.cancel(reason),
                None => drop(exchange),
            }
        }
    }

    /// From now on what the upstream asks is refused at once: the client has no stream to hear it.
    pub fn refuse_questions(&mut self) {
        self.refuses = true;
    }

    pub fn call(&self) -> &Call {
        &self.call
    }

    fn fault(&self, error: SendError) -> Fault {
        let method = self.call.method;
        let upstream = self.upstream.name();
        tracing::warn!(upstream, method = method.name(), %error, "a call failed");
        Fault::Upstream { method, error }
    }

    fn fit(&self, event: Event) -> Result<Option<Out>, Fault> {
        let version = self.call.client.version;
        match event {
            Event::Notice(notice) => {
                let fits = || older::notice(version, notice.method, &notice.whole);
                let whole = self.wants(&notice).then(fits).flatten();
                Ok(whole.map(|whole| Out::Message(whole.bytes().clone())))
            }
            Event::Question(_) if self.refuses => Ok(None),
            Event::Question(question) => Ok(self.call.session.as_ref().and_then(|session| {
                let question = question.fit(version)?;
                let id = session.ask(question.reply);
                Some(Out::Message(message::request(&id, &question.method, &question.params)))
            })),
            Event::Paused { retry } => {
                Ok(self.call.session.is_some().then_some(Out::Paused(retry)))
            }
            Event::Answer { body, status } => {
                self.check(&body)?;
                let body = self.name_task(body);
                let same = self.era == Era::Modern && self.call.client.era() == Era::Modern;
                let status = if same { status } else { 200 };
                Ok(Some(Out::Answer { body: fit_body(body, &self.call, self.era), status }))
            }
        }
    }

    /// A client hears what it asked for, whatever others asked of a server that all share.
    fn wants(&self, notice: &Notice) -> bool {
        match notice.method {
            Some(Method::LogMessage) => self.hears(notice),
            Some(Method::Progress) => self.call.meta.progress_token.is_some(),
            Some(Method::Cancelled) => false,
            _ => true,
        }
    }

    fn hears(&self, notice: &Notice) -> bool {
        let least = match &self.call.session {
            Some(session) => session.log_level(),
            // A modern upstream knows itself what this very request asked for.
            None if self.era == Era::Modern => return true,
            None => match &self.call.meta.log_level {
                Some(level) => Some(level.clone()),
                None => return false,
            },
        };
        let Some(least) = least.and_then(|level| level::rank(&level)) else { return true };
        let said = splice::member(&notice.params, "level").and_then(|level| level.try_read());
        said.and_then(|level: String| level::rank(&level)).is_none_or(|said| least <= said)
    }

    /// A legacy client has no words for a result that asks back.
    fn check(&self, body: &Body) -> Result<(), Fault> {
        let crossed = self.call.client.era() == Era::Legacy && self.era == Era::Modern;
        let Body::Result(result) = body else { return Ok(()) };
        let kind = if crossed { splice::member(result, "resultType") } else { None };
        match kind {
            Some(kind) if kind.as_str() != "\"complete\"" => Err(Fault::Unbridgeable(format!(
                "it answered with a result of type {}",
                kind.as_str()
            ))),
            _ => Ok(()),
        }
    }

    /// Tasks of several upstreams must not be mistaken for one another.
    fn name_task(&self, body: Body) -> Body {
        let may = matches!(self.call.method, Method::ToolsCall | Method::TasksGet)
            && self.call.client.era() == Era::Modern
            && self.route.is_merged();
        let Body::Result(result) = &body else { return body };
        let id = if may {
            splice::member(result, "taskId").and_then(|id| id.try_read::<String>())
        } else {
            None
        };
        let Some(id) = id else { return body };
        let shown = Raw::encode(&resolve::shown_task(&self.route, self.upstream.name(), &id));
        Body::Result(splice::edit(result, &[("taskId", Some(shown.bytes()))]))
    }
}

/// A body of an upstream of era `from` as the client's era has it: only what that demands is added.
pub fn fit_body(body: Body, call: &Call, from: Era) -> Body {
    let body = older::body(call.client.version, from, call.method, body);
    match (from, call.client.era(), body) {
        (Era::Legacy, Era::Modern, Body::Result(result)) => {
            let mut edits: Vec<(&str, Option<&[u8]>)> = vec![("resultType", Some(b"\"complete\""))];
            if call.method == Method::ResourcesRead {
                edits.push(("ttlMs", Some(b"0")));
                edits.push(("cacheScope", Some(b"\"private\"")));
            }
            Body::Result(splice::edit(&result, &edits))
        }
        (Era::Legacy, Era::Modern, Body::Error(error)) => {
            let error = recode(&error, RESOURCE_NOT_FOUND, INVALID_PARAMS);
            Body::Error(recode(&error, URL_ELICITATION_REQUIRED, INVALID_PARAMS))
        }
        (Era::Modern, Era::Legacy, Body::Error(error)) if call.method == Method::ResourcesRead => {
            Body::Error(recode(&error, INVALID_PARAMS, RESOURCE_NOT_FOUND))
        }
        (_, _, body) => body,
    }
}

fn recode(error: &Raw, from: i64, to: i64) -> Raw {
    #[derive(serde::Deserialize)]
    struct Code {
        code: i64,
    }
    match error.try_read::<Code>() {
        Some(Code { code }) if code == from => {
            splice::edit(error, &[("code", Some(to.to_string().as_bytes()))])
        }
        Some(_) => error.clone(),
        None => ErrorObject::new(to, "the server's error is no error object").raw(),
    }
}
