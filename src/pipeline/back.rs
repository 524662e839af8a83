//! The way back: what an upstream says during a call, in words that fit the client.
//!
//! Within one era it is relayed. Across the eras questions in mid-call change their form: see
//! `asked` (a legacy server asks a modern client) and `rounds` (the reverse).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    call::{
        Ask,
        event::{Event, Notice, Question},
    },
    config::Limits,
    mcp::{
        error::URL_ELICITATION_REQUIRED,
        id::Id,
        level,
        message::{self, Body},
        method::Method,
        older,
        raw::Raw,
        splice,
        version::Era,
    },
    park::{
        Parked,
        state::{Bearer, Held},
    },
    session::Underway,
    snapshot::{Gate, Route},
    telemetry::Counter,
    upstream::{Exchange, SendError, Upstream},
};

use super::{
    Call, Fault,
    asked::{self, Asked},
    fit, pages,
    resolve::{self, Resolved},
    rounds::{self, Begun, Round},
};

/// A call under way, read event by event. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub struct Back {
    gate: Arc<Gate>,
    route: Arc<Route>,
    call: Call,
    resolved: Resolved,
    upstream: Arc<Upstream>,
    stage: Stage,
    /// The era spoken to the upstream.
    era: Era,
    /// Ends with the call; none for a client without sessions.
    underway: Option<Underway>,
    /// The client can be asked nothing.
    refuses: bool,
    /// Nothing came yet: a session that the upstream forgot may be opened anew.
    fresh: bool,
    /// What goes to the client before anything else happens.
    ready: VecDeque<Result<Out, Fault>>,
    asked: Asked,
    /// Questions that the client was put, by the server's id and by ours.
    put: Vec<(Id, Id)>,
    rounds: usize,
    /// Pages that the client was told to open.
    pages: Vec<Id>,
}

/// Where a call stands.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the whole is boxed, and this is its usual stage")]
enum Stage {
    /// To be sent again: on another session, or with answers.
    Again(Box<Ask>),
    Underway(Exchange),
    /// The client is being asked what a modern server wants to know.
    Asking(Round),
    Over,
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
        gate: &Arc<Gate>,
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
        let mut back = Self::new(gate, route, call, resolved, upstream, exchange);
        back.underway = underway;
        Ok(back)
    }

    /// Goes on with a call that was parked, for the client's retry.
    pub(super) fn resume(
        gate: &Arc<Gate>,
        route: &Arc<Route>,
        call: Call,
        resolved: Resolved,
        parked: Parked,
    ) -> Self {
        let Parked { mut exchange, upstream, asked, .. } = parked;
        exchange.restore_token(call.meta.progress_token.clone());
        let mut back = Self::new(gate, route, call, resolved, upstream, exchange);
        (back.asked, back.fresh) = (Asked::after(asked), false);
        back
    }

    fn new(
        gate: &Arc<Gate>,
        route: &Arc<Route>,
        call: Call,
        resolved: Resolved,
        upstream: Arc<Upstream>,
        exchange: Exchange,
    ) -> Self {
        Self {
            gate: Arc::clone(gate),
            route: Arc::clone(route),
            refuses: !call.streams,
            call,
            resolved,
            upstream,
            era: exchange.era,
            stage: Stage::Underway(exchange),
            underway: None,
            fresh: true,
            ready: VecDeque::new(),
            asked: Asked::default(),
            put: Vec::new(),
            rounds: 0,
            pages: Vec::new(),
        }
    }

    /// What the client gets next; after an answer or a fault there is no more.
    ///
    /// Safe to drop: every stage keeps what it has.
    pub async fn next(&mut self) -> Result<Out, Fault> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return ready;
            }
            if let Some(out) = self.step_or_end().await? {
                return Ok(out);
            }
        }
    }

    /// The next step, unless the client cancels the call.
    async fn step_or_end(&mut self) -> Result<Option<Out>, Fault> {
        let Some(underway) = &self.underway else { return self.step().await };
        let cancelled = underway.cancelled();
        let reason = tokio::select! {
            // Both keep what they have when dropped.
            out = self.step() => return out,
            reason = cancelled => reason,
        };
        self.cancel(reason);
        self.ready.push_back(Err(Fault::Cancelled));
        Ok(None)
    }

    async fn step(&mut self) -> Result<Option<Out>, Fault> {
        match &mut self.stage {
            Stage::Underway(exchange) => {
                let event = match self.asked.due() {
                    None => exchange.next().await,
                    Some(due) => match tokio::time::timeout_at(due, exchange.next()).await {
                        Ok(event) => event,
                        Err(_) => return self.park().map(Some),
                    },
                };
                self.hear(event)
            }
            Stage::Again(ask) => {
                // Boxed: rare, and large.
                let sent = Box::pin(self.upstream.send(ask)).await;
                let exchange = sent.map_err(|error| self.fault(error))?;
                self.era = exchange.era;
                self.stage = Stage::Underway(exchange);
                Ok(None)
            }
            Stage::Asking(round) => {
                let answered = round.answered().await;
                self.answered(answered);
                Ok(None)
            }
            Stage::Over => Err(Fault::Cancelled),
        }
    }

    fn hear(&mut self, event: Result<Event, SendError>) -> Result<Option<Out>, Fault> {
        let fresh = std::mem::replace(&mut self.fresh, false);
        match event {
            Ok(Event::Notice(notice)) => Ok(self.notice(&notice)),
            Ok(Event::Question(question)) => self.question(question),
            Ok(Event::Paused { retry }) => {
                Ok(self.call.session.is_some().then_some(Out::Paused(retry)))
            }
            Ok(Event::Answer { body, status }) => self.answer(body, status),
            // It was not processed: once more, on a session opened anew.
            Err(SendError::SessionGone) if fresh => {
                self.stage = Stage::Again(Box::new(self.resolved.ask(&self.call)));
                Ok(None)
            }
            Err(error) => Err(self.fault(self.upstream.failed(error))),
        }
    }

    fn cancel(&mut self, reason: Option<String>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        match (stage, reason) {
            (Stage::Underway(exchange), Some(reason)) => exchange.cancel(reason),
            (Stage::Asking(round), _) => self.ready.extend(round.withdrawn().map(Ok)),
            (Stage::Underway(_) | Stage::Again(_) | Stage::Over, _) => (),
        }
    }

    /// From now on what the upstream asks is refused at once: the client has no stream to hear it.
    pub fn refuse_questions(&mut self) {
        self.refuses = true;
    }

    pub fn call(&self) -> &Call {
        &self.call
    }

    fn limits(&self) -> Limits {
        self.gate.snapshot().config.server.limits.clone()
    }

    fn fault(&self, error: SendError) -> Fault {
        let method = self.call.method;
        let upstream = self.upstream.name();
        tracing::warn!(upstream, method = method.name(), %error, "a call failed");
        Fault::Upstream { method, error }
    }

    /// A question of a legacy server; dropped, it is refused.
    fn question(&mut self, question: Question) -> Result<Option<Out>, Fault> {
        let Some(session) = &self.call.session else {
            let window = self.limits().question_window;
            let added = self.asked.add(question, &self.call, window);
            if let Err(fault) = &added {
                self.cancel(Some(fault.to_string()));
            }
            return added.map(|()| None);
        };
        if self.refuses {
            return Ok(None);
        }
        // One that cannot be put to this client is answered with the reason.
        let Some(question) = question.fit(session.client.version) else { return Ok(None) };
        let id = session.ask(question.reply);
        self.put.push((question.id, id.clone()));
        let patience = self.limits().answer_timeout;
        if let Stage::Underway(exchange) = &mut self.stage {
            exchange.allow_answer(patience);
        }
        Ok(Some(Out::Message(message::request(&id, &question.method, &question.params))))
    }

    fn notice(&mut self, notice: &Notice) -> Option<Out> {
        if notice.method == Some(Method::Cancelled) {
            return self.withdrawn(notice);
        }
        let fits = || older::notice(self.call.client.version, notice.method, &notice.whole);
        let whole = self.wants(notice).then(fits).flatten()?;
        Some(Out::Message(whole.bytes().clone()))
    }

    /// The server no longer wants an answer to what it asked.
    fn withdrawn(&mut self, notice: &Notice) -> Option<Out> {
        let id = splice::member(&notice.params, "requestId").and_then(|id| Id::new(id).ok())?;
        self.asked.withdraw(&id);
        let at = self.put.iter().position(|(own, _)| *own == id)?;
        let (_, shown) = self.put.swap_remove(at);
        let edits: &[(&str, Option<&[u8]>)] = &[("requestId", Some(shown.raw().bytes()))];
        let params = splice::edit(&notice.params, edits);
        let text = message::notification(Method::Cancelled.name(), &params);
        Some(Out::Message(text.bytes().clone()))
    }

    /// A client hears what it asked for, whatever others asked of a server that all share.
    fn wants(&self, notice: &Notice) -> bool {
        match notice.method {
            Some(Method::LogMessage) => self.hears(notice),
            Some(Method::Progress) => self.call.meta.progress_token.is_some(),
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

    fn answer(&mut self, body: Body, status: u16) -> Result<Option<Out>, Fault> {
        let kind = match &body {
            Body::Result(result) if self.era == Era::Modern => result_type(result),
            Body::Result(_) | Body::Error(_) => None,
        };
        match (kind.as_deref(), body, self.call.client.era()) {
            (Some("input_required"), Body::Result(result), Era::Legacy) => {
                self.begin_round(&result).map(|()| None)
            }
            (Some("input_required"), Body::Result(result), Era::Modern) => {
                let body = Body::Result(self.sealed(result));
                Ok(Some(Out::Answer { body, status }))
            }
            (Some(kind), Body::Result(_), Era::Legacy) => {
                Err(Fault::Unbridgeable(format!("it answered with a result of type `{kind}`")))
            }
            (_, Body::Error(error), Era::Modern)
                if self.era == Era::Legacy && fit::code_of(&error) == URL_ELICITATION_REQUIRED =>
            {
                pages::input_required(&self.call, &error, |request| {
                    self.state(Held::Anew, request, self.limits().answer_timeout)
                })
                .map(Some)
            }
            (_, body, _) => Ok(Some(self.end(body, status))),
        }
    }

    /// The last word, after all that belongs before it.
    fn end(&mut self, body: Body, status: u16) -> Out {
        let body = self.name_task(body);
        let same = self.era == Era::Modern && self.call.client.era() == Era::Modern;
        let status = if same { status } else { 200 };
        let answer = Out::Answer { body: fit::fit_body(body, &self.call, self.era), status };
        let mut outs = self.pages.drain(..).map(|id| rounds::page_done(&id));
        let Some(first) = outs.next() else { return answer };
        self.ready.extend(outs.map(Ok));
        self.ready.push_back(Ok(answer));
        first
    }

    /// Asks a legacy client what a modern server wants to know.
    fn begin_round(&mut self, result: &Raw) -> Result<(), Fault> {
        let limits = self.limits();
        self.rounds += 1;
        if limits.rounds_max < self.rounds {
            let why = format!("it asked more than {} times (`rounds_max`)", limits.rounds_max);
            return Err(Fault::Unbridgeable(why));
        }
        let session = self.call.session.as_ref().filter(|_| !self.refuses);
        let session = session.ok_or_else(|| {
            Fault::Unbridgeable("it asks in mid-call, and the client reads no stream".to_owned())
        })?;
        self.gate.counters.add(Counter::Rounds);
        let begun = Round::begin(result, session, limits.answer_timeout, self.rounds)?;
        let Begun { round, messages, pages } = begun;
        self.ready.extend(messages.into_iter().map(Ok));
        self.pages.extend(pages);
        self.stage = Stage::Asking(round);
        Ok(())
    }

    /// The call is sent again with the answers, or ends with what came in their place.
    fn answered(&mut self, answered: Result<(), Fault>) {
        let Stage::Asking(round) = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        match answered {
            Ok(()) => {
                let mut ask = self.resolved.ask(&self.call);
                ask.params = round.params(&ask.params);
                self.stage = Stage::Again(Box::new(ask));
            }
            Err(fault) => {
                self.ready.extend(round.withdrawn().map(Ok));
                self.ready.push_back(Err(fault));
            }
        }
    }

    /// The call waits here for the client's answers.
    fn park(&mut self) -> Result<Out, Fault> {
        let Stage::Underway(exchange) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Err(Fault::Cancelled);
        };
        let (open, count) = self.asked.take();
        let parked = Parked::new(exchange, Arc::clone(&self.upstream), open, count);
        asked::park(&self.gate, &self.route, &self.call, parked)
            .map(|result| Out::Answer { body: Body::Result(result), status: 200 })
    }

    /// A modern server's own state, bound to this client's request: the server may not be able to
    /// tell one client from another.
    fn sealed(&self, result: Raw) -> Raw {
        let Some(state) = splice::member(&result, "requestState") else { return result };
        let age = self.limits().session_age;
        let request = self.call.digest();
        let state = self.state(Held::Upstream(state), request, age);
        splice::edit(&result, &[("requestState", Some(state.bytes()))])
    }

    fn state(&self, held: Held, request: [u8; 16], patience: Duration) -> Raw {
        let bearer =
            Bearer { route: &self.route.settings.path, caller: &self.call.caller, request };
        self.gate.lot.states.seal(held, bearer, crate::park::seconds(patience))
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

/// What kind of result it is, where it is not the usual one.
fn result_type(result: &Raw) -> Option<String> {
    let kind = splice::member(result, "resultType")?;
    (kind.as_str() != "\"complete\"").then(|| kind.try_read().unwrap_or_default())
}
