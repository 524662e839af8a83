//! The way back: what an upstream says during a call, in words that fit the client.
//!
//! Within one era it is relayed. Across the eras questions in mid-call change their form: see
//! `asked` (a legacy server asks a modern client) and `rounds` (the reverse). A call may go on as a
//! task of ours (`tasks`), or lead to a task of the server (`polling`, and `upstream::exchange`).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    audit::{Entry, Full},
    call::event::Event,
    mcp::{
        error::{URL_ELICITATION_REQUIRED, code_of},
        id::Id,
        message::Body,
        method::Method,
        version::Era,
    },
    park::{Parked, state::StateContent, task::Task},
    session::SessionRequest,
    telemetry::{Counter, Counters, throttle},
    upstream::{Clearance, Exchange, SendError, Sent, TaskRef, Upstream},
};

use super::{
    Call, Context, Fault,
    asked::{self, Asked},
    cached::{self, Outdated, Shared, Wait},
    clean::{After, Checking},
    fit,
    migrate::{self, OnTrial, Turned},
    pages,
    polling::Polling,
    puts::Puts,
    resolve::{self, Resolved},
    rounds::{self, Round},
    sending::Sending,
    shadow::{self, Shadowed},
    shown, tasks,
    tries::Tries,
};

/// A call under way, read event by event. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub struct Back {
    pub(super) context: Arc<Context>,
    /// Its record, until another one goes on with it.
    pub(super) entry: Option<Arc<Entry>>,
    pub(super) resolved: Resolved,
    pub(super) upstream: Arc<Upstream>,
    pub(super) stage: Stage,
    /// Which of several replicas has it.
    pub(super) replica: Option<u64>,
    /// It is with a successor on trial.
    pub(super) trial: Option<Box<OnTrial>>,
    /// Who compares its answer with a successor's.
    pub(super) shadow: Option<Shadowed>,
    /// That it was sent, for what it leads to.
    pub(super) sent: Option<Sent>,
    /// How it is sent, and how often.
    pub(super) tries: Arc<Tries>,
    /// The era spoken to the upstream.
    pub(super) era: Era,
    /// Ends with the call; none for a client without sessions.
    pub(super) underway: Option<SessionRequest>,
    /// The client can be asked nothing.
    pub(super) refuses: bool,
    /// Nothing came yet: a session that the upstream forgot may be opened anew.
    pub(super) fresh: bool,
    /// What goes to the client before anything else happens.
    pub(super) ready: VecDeque<Result<Out, Fault>>,
    pub(super) asked: Asked,
    /// Questions that a legacy client was put.
    pub(super) puts: Puts,
    pub(super) rounds: usize,
    /// Pages that the client was told to open.
    pub(super) pages: Vec<Id>,
    pub(super) since: Instant,
    /// When it is to go on as a task of ours; none where it is not, or does already.
    pub(super) task_at: Option<Instant>,
    /// The task that it goes on as.
    pub(super) task: Option<Arc<Task>>,
    /// Of its answer with others.
    pub(super) shared: Shared,
    /// What is kept and no longer good once it is over.
    pub(super) outdated: Option<Outdated>,
}

/// Where a call stands.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the whole is boxed, and this is its usual stage")]
pub(super) enum Stage {
    /// To be sent again: on another session, or with answers.
    Again(Sending),
    Underway(Exchange),
    /// A legacy server gave a task, whose result is to be asked for.
    Following(Exchange, TaskRef),
    /// A modern server gave a task, which is brought to its end.
    Polling(Box<Polling>),
    /// The client is being asked what a modern server wants to know.
    Asking(Round),
    /// Another call asks the same.
    Waiting(Wait),
    /// It was answered with much, which is being judged.
    Checking(Checking),
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
        context: Arc<Context>,
        resolved: Resolved,
        clearance: Clearance,
        shared: &mut Shared,
    ) -> Result<Self, Fault> {
        let shadow = shadow::begin(&context, &resolved, &clearance);
        // By its own upstream's name, whoever gets it.
        let outdated = Outdated::by(&context, &resolved);
        let judged = Arc::clone(&resolved.target);
        let mut turned = migrate::turned(&context, resolved, clearance);
        let underway = context.begin()?;
        let sent = turned.send(&context).await;
        let mut exchange = sent.map_err(|error| resolve::failed(&context, &judged, error))?;
        let Turned { resolved, tries, trial } = turned;
        if context.call.method == Method::TasksResult {
            // It is silent until the task is over; whoever asks looks at that meanwhile.
            exchange.allow_answer(tries.timeout.total);
        }
        let mut back = Self::new(context, resolved, exchange, tries);
        back.underway = underway;
        back.trial = trial;
        back.shadow = shadow;
        back.outdated = outdated;
        back.shared = std::mem::take(shared);
        Ok(back)
    }

    /// Goes on with a call that was parked, for the client's retry.
    pub(super) fn resume(
        context: Arc<Context>,
        resolved: Resolved,
        parked: Parked,
        clearance: Clearance,
    ) -> Self {
        let Parked { mut exchange, upstream, question_count: asked, .. } = parked;
        let outdated = Outdated::by(&context, &resolved);
        exchange.restore_token(context.call.meta.progress_token.clone());
        let tries = Tries::new(&context, &resolved, clearance);
        let mut back = Self::new(context, resolved, exchange, tries);
        back.upstream = upstream;
        back.asked = Asked::after(asked);
        back.fresh = false;
        back.outdated = outdated;
        back
    }

    fn new(
        context: Arc<Context>,
        resolved: Resolved,
        exchange: Exchange,
        tries: Arc<Tries>,
    ) -> Self {
        let task_at = tasks::due(&context, exchange.era);
        let (era, replica) = (exchange.era, exchange.replica);
        let back = Self::staged(context, resolved, tries, Stage::Underway(exchange));
        Self { era, replica, task_at, ..back }
    }

    /// At a stage that needs no exchange.
    pub(super) fn staged(
        context: Arc<Context>,
        resolved: Resolved,
        tries: Arc<Tries>,
        stage: Stage,
    ) -> Self {
        let upstream = Arc::clone(&resolved.target.upstream);
        let era = upstream.peer().map_or(Era::Legacy, |peer| peer.version.era());
        Self {
            task_at: tasks::due(&context, era),
            since: Instant::now(),
            task: None,
            refuses: !context.call.streams,
            entry: context.entry.clone(),
            context,
            resolved,
            upstream,
            era,
            replica: None,
            trial: None,
            shadow: None,
            stage,
            sent: None,
            tries,
            underway: None,
            fresh: true,
            ready: VecDeque::new(),
            asked: Asked::default(),
            puts: Puts::default(),
            rounds: 0,
            pages: Vec::new(),
            shared: Shared::default(),
            outdated: None,
        }
    }

    /// What the client gets next; after an answer or a fault there is no more.
    ///
    /// Safe to drop: every stage keeps what it has.
    pub async fn next(&mut self) -> Result<Out, Fault> {
        let next = self.heard_next().await;
        if let Some(entry) = &self.entry {
            match &next {
                Ok(Out::Answer { body, .. }) => {
                    entry.answered(body).map_err(|Full| Fault::UnrecordedAnswer)?;
                }
                Ok(Out::Message(_) | Out::Paused(_)) => (),
                Err(fault) => entry.failed(fault.reason()),
            }
        }
        next
    }

    async fn heard_next(&mut self) -> Result<Out, Fault> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return ready;
            }
            let out = match self.step_or_end().await {
                Ok(out) => out,
                Err(fault) => self.fell(fault)?,
            };
            if let Some(out) = out {
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
        let late = self.puts.due();
        match &mut self.stage {
            Stage::Underway(exchange) => {
                let due = self.asked.due().into_iter().chain(self.task_at).chain(late).min();
                let event = match due {
                    None => exchange.next().await,
                    // From its very beginning: `task_after` is 0.
                    Some(due) if due <= self.since => return self.due(),
                    Some(due) => match tokio::time::timeout_at(due, exchange.next()).await {
                        Ok(event) => event,
                        Err(_) => return self.due(),
                    },
                };
                self.hear(event)
            }
            Stage::Following(exchange, task) => {
                let call = self.resolved.ask(&self.context.call);
                // Boxed, as the next one: rare, and large.
                let followed =
                    Box::pin(exchange.follow(task, &call, &self.context.gate.tasks)).await;
                followed.map_err(|error| self.fault(error))?;
                self.followed();
                Ok(None)
            }
            Stage::Polling(polling) => {
                let polled = Box::pin(polling.step()).await;
                self.polled(polled)
            }
            Stage::Again(sending) => {
                let sent = (&mut sending.0).await;
                let exchange = sent.map_err(|error| self.fault(error))?;
                (self.era, self.replica) = (exchange.era, exchange.replica);
                self.stage = Stage::Underway(exchange);
                Ok(None)
            }
            Stage::Asking(round) => {
                let answered = round.answered().await;
                self.answered(answered);
                Ok(None)
            }
            Stage::Waiting(wait) => {
                let late_at = self.since + self.tries.timeout.total;
                let waited = cached::waited(wait, self.task_at, late_at).await;
                self.waited(waited)
            }
            Stage::Checking(checking) => {
                let judged = (&mut checking.judged).await;
                self.checked(judged)
            }
            Stage::Over => Err(self.context.bug("a call that is over was asked for more")),
        }
    }

    fn hear(&mut self, event: Result<Event, SendError>) -> Result<Option<Out>, Fault> {
        let fresh = std::mem::replace(&mut self.fresh, false);
        if let Stage::Underway(exchange) = &self.stage {
            // Another replica may have answered in the place of the first.
            (self.era, self.replica) = (exchange.era, exchange.replica);
            if let Some(entry) = &self.entry {
                entry.heard(self.replica.and_then(|number| self.upstream.replica_url(number)));
            }
        }
        if self.falls_back(&event, fresh) {
            return Ok(None);
        }
        match event {
            Ok(Event::Notification(notice)) => Ok(self.notice(&notice)),
            Ok(Event::ServerRequest(question)) => self.question(question),
            Ok(Event::Resumable { retry }) => {
                Ok(self.context.call.session.is_some().then_some(Out::Paused(retry)))
            }
            Ok(Event::Answer { body, status }) => {
                let again = fresh && self.repeats_after((&body, status));
                if again { Ok(None) } else { self.answer(body, status) }
            }
            // It was not processed: once more, on a session opened anew.
            Err(SendError::SessionGone) if fresh => {
                self.send_again(self.resolved.ask(&self.context.call));
                Ok(None)
            }
            Err(error) => self.fails_or_repeats(error, fresh).map(|()| None),
        }
    }

    pub(super) fn cancel(&mut self, reason: Option<String>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        match (stage, reason) {
            (Stage::Underway(exchange), Some(reason)) => exchange.cancel(reason),
            (Stage::Asking(round), _) => self.ready.extend(round.withdrawn().map(Ok)),
            (Stage::Polling(polling), _) => {
                self.ready.extend(polling.withdrawn().into_iter().map(Ok));
            }
            (
                Stage::Underway(_)
                | Stage::Following(..)
                | Stage::Again(_)
                | Stage::Waiting(_)
                | Stage::Checking(_)
                | Stage::Over,
                _,
            ) => (),
        }
    }

    /// From now on what the upstream asks is refused at once: the client has no stream to hear it.
    pub fn refuse_questions(&mut self) {
        self.refuses = true;
    }

    /// The same, and what was asked already and not answered is refused, too.
    pub fn refuse_all_questions(&mut self) {
        self.refuses = true;
        self.puts = Puts::default();
    }

    pub fn call(&self) -> &Call {
        &self.context.call
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub fn counters(&self) -> &Counters {
        &self.context.gate.counters
    }

    pub(super) fn fault(&self, error: SendError) -> Fault {
        let method = self.context.call.method;
        let upstream = self.upstream.name();
        throttle::line(("a call", upstream, error.kind()), |more| {
            tracing::warn!(upstream, method = method.name(), %error, more, "a call failed");
        });
        resolve::failed(&self.context, &self.resolved.target, error)
    }

    pub(super) fn answer(&mut self, body: Body, status: u16) -> Result<Option<Out>, Fault> {
        if let Body::Result(result) = &body
            && !result.is_object()
        {
            let error = SendError::Garbage("a result that is no object".to_owned());
            return Err(self.fault(self.upstream.failed(error)));
        }
        self.share(&body);
        if resolve::is_missing(&self.context, &self.resolved.target, &body) {
            return Err(resolve::unlisted(&self.context));
        }
        match self.cleaned(body, After::Answer(status))? {
            Some(body) => self.clean_answer(body, status),
            None => Ok(None),
        }
    }

    /// Goes on with an answer that may pass.
    pub(super) fn clean_answer(&mut self, body: Body, status: u16) -> Result<Option<Out>, Fault> {
        self.note_task(&body);
        if let Some(task) = self.task_given(&body) {
            let stage = std::mem::replace(&mut self.stage, Stage::Over);
            if let Stage::Underway(exchange) = stage {
                self.context.gate.counters.add(Counter::TasksCarried);
                self.stage = Stage::Following(exchange, task);
                return Ok(None);
            }
        }
        let kind = match &body {
            Body::Result(result) if self.era == Era::Modern => {
                fit::result_type(result, self.context.call.client.era())
            }
            Body::Result(_) | Body::Error(_) => None,
        };
        match (kind.as_deref(), body, self.context.call.client.era()) {
            (Some("input_required"), Body::Result(result), Era::Legacy) => {
                self.begin_round(&result).map(|()| None)
            }
            (Some("input_required"), Body::Result(result), Era::Modern) => {
                let body = Body::Result(self.sealed(result));
                Ok(Some(Out::Answer { body, status }))
            }
            (Some("task"), Body::Result(result), Era::Legacy) => self.begin_polling(&result),
            (Some(kind), Body::Result(_), Era::Legacy) => {
                Err(Fault::Unbridgeable(format!("it answered with a result of type `{kind}`")))
            }
            (_, Body::Error(error), Era::Modern)
                // A task cannot be begun anew: there the error is the end, and names the pages.
                if self.era == Era::Legacy
                    && self.task.is_none()
                    && code_of(&error) == URL_ELICITATION_REQUIRED =>
            {
                pages::input_required(&self.context.call, &error, |request| {
                    self.state(StateContent::Anew, request, self.context.limits().answer_timeout)
                })
                .map(Some)
            }
            (_, body, _) => Ok(Some(self.end(body, status))),
        }
    }

    /// The last word, after all that belongs before it.
    pub(super) fn end(&mut self, body: Body, status: u16) -> Out {
        drop(self.outdated.take());
        if let Some(shadow) = self.shadow.take() {
            shadow.answered(&body);
        }
        let body = match self.name_task(body) {
            Body::Result(result) => Body::Result(self.of_no_task(result)),
            error @ Body::Error(_) => error,
        };
        let same = self.era == Era::Modern && self.context.call.client.era() == Era::Modern;
        let status = if same { status } else { 200 };
        let answer = Out::Answer { body: shown::body(self, body), status };
        let mut outs = self.pages.drain(..).map(|id| rounds::page_done(&id));
        let Some(first) = outs.next() else { return answer };
        self.ready.extend(outs.map(Ok));
        self.ready.push_back(Ok(answer));
        first
    }

    /// The call waits here for the client's answers.
    pub(super) fn park(&mut self) -> Result<Out, Fault> {
        let Stage::Underway(mut exchange) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Err(self.context.bug("only a call under way can be parked"));
        };
        // The client's retry is let in like any other request.
        exchange.release();
        let (open, count) = self.asked.take();
        let place = (Arc::clone(&self.upstream), self.resolved.target.own.clone());
        let parked = Parked::new(exchange, place, open, count);
        asked::park(&self.context, parked)
            .map(|result| Out::Answer { body: Body::Result(result), status: 200 })
    }
}
