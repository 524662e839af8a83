//! One request under way: its events, its deadlines, and its end.

pub mod error;
pub mod task;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use self::error::SendError;
use crate::{
    call::{
        UpstreamRequest,
        event::{Event, ServerNotification},
        tasks::Tasks,
    },
    config::Timeout,
    limit::Admission,
    mcp::{
        error::{INTERNAL_ERROR, code_of},
        message::Body,
        meta::PROGRESS_TOKEN,
        method::Method,
        raw::Raw,
        splice,
        version::Era,
    },
    resilience::{Attempt, AttemptOutcome, Cause, Continuation},
    upstream::{
        cluster::{
            endpoints::InFlight,
            failover::{self, Failover},
        },
        connection::{open::Connection, pool::Leased, select::Hold},
        exchange::task::{TaskRef, Watch},
        proof::Sent,
        replica::backoff::Underway,
        transport::{http::HttpCall, multiplexed::MultiplexedCall},
    },
};

/// A request under way. Dropped before its answer, it is cancelled upstream.
#[derive(Debug)]
pub struct Exchange {
    source: Source,
    /// What is said beside the request's own stream, on a connection that is leased for it.
    aside: Option<mpsc::Receiver<Event>>,
    /// The era spoken to the upstream.
    pub era: Era,
    timeout: Timeout,
    idle_at: Instant,
    total_at: Instant,
    /// A client was asked and may need until then: the server waits, and is not idle.
    answer_by: Option<Instant>,
    /// The client's own progress token, where another one was sent.
    token: Option<Raw>,
    /// A task that the answer to come is of; it holds the lease then.
    watch: Option<Box<Watch>>,
    /// Given back to its pool when this is dropped, after `source`.
    leased: Option<Leased>,
    /// What it was sent on, where it may lead to a task.
    connection: Option<Box<Connection>>,
    /// Which of several replicas it was sent to.
    pub replica: Option<u64>,
    /// What that replica's standing hears of it.
    picked: Option<InFlight>,
    /// What happens where that replica fails it, or is slow.
    pub failover: Option<Box<Failover>>,
    /// When it was sent.
    since: Instant,
    /// A person was asked, or the server works on a task: it is not slow.
    unhurried: bool,
    /// Until it is known how it went.
    attempt: Option<Attempt>,
    /// That a breaker let it through.
    let_through: Option<Continuation>,
    /// Its places at the upstream.
    admission: Option<Admission>,
    /// The session that it is sent in is kept until this ends.
    _hold: Option<Hold>,
    /// What its replica counts and hears of it.
    underway: Option<Arc<Underway>>,
}

/// By transport.
#[derive(Debug)]
pub enum Source {
    Multiplexer(MultiplexedCall),
    Http(Box<HttpCall>),
}

impl Source {
    pub async fn next(&mut self) -> Result<Event, SendError> {
        match self {
            Self::Multiplexer(call) => call.next().await,
            Self::Http(call) => call.next().await,
        }
    }
}

impl Exchange {
    pub fn new(source: Source, era: Era, timeout: Timeout) -> Self {
        let now = Instant::now();
        let (idle_at, total_at) = (now + timeout.idle, now + timeout.total);
        Self {
            source,
            aside: None,
            era,
            timeout,
            idle_at,
            total_at,
            answer_by: None,
            token: None,
            watch: None,
            leased: None,
            connection: None,
            replica: None,
            picked: None,
            failover: None,
            since: now,
            unhurried: false,
            attempt: None,
            let_through: None,
            admission: None,
            _hold: None,
            underway: None,
        }
    }

    /// Units that limits of the upstream took for it; none where there are no such limits.
    pub fn cost(&self) -> Option<NonZeroU32> {
        self.admission.as_ref().and_then(Admission::cost)
    }

    /// `token` is put back into progress notifications.
    pub fn restoring(self, token: Option<Raw>) -> Self {
        Self { token, ..self }
    }

    /// Progress is the client's by this token from now on.
    pub fn restore_token(&mut self, token: Option<Raw>) {
        self.token = token.or(self.token.take());
    }

    pub fn hearing(self, aside: Option<mpsc::Receiver<Event>>) -> Self {
        Self { aside, ..self }
    }

    pub fn holding(self, leased: Option<Leased>) -> Self {
        Self { leased, ..self }
    }

    pub fn keeping(self, hold: Option<Hold>) -> Self {
        Self { _hold: hold, ..self }
    }

    pub fn over(self, connection: Connection) -> Self {
        Self { connection: Some(Box::new(connection)), ..self }
    }

    /// With other times than its connection's, from when it was sent.
    pub fn within(mut self, timeout: Timeout) -> Self {
        (self.idle_at, self.total_at) = (self.since + timeout.idle, self.since + timeout.total);
        self.timeout = timeout;
        self
    }

    /// No later than this, whatever the time of a whole call: it was sent before.
    pub fn until(mut self, deadline: Instant) -> Self {
        self.total_at = self.total_at.min(deadline);
        self
    }

    pub fn cleared(self, admission: Admission, attempt: Attempt) -> Self {
        let let_through = Some(attempt.continuation());
        Self { attempt: Some(attempt), let_through, admission: Some(admission), ..self }
    }

    /// That it was sent, for what it leads to; none where it is the gate's own, or has given its
    /// places back.
    pub fn sent(&self) -> Option<Sent> {
        let admission = self.admission.clone()?;
        Some(Sent::new(admission, self.let_through.clone()?))
    }

    /// Gives its places back: its client has to come back for it.
    pub fn release(&mut self) {
        self.admission = None;
    }

    /// Holds these places from now on.
    pub fn admitted(&mut self, admission: Admission) {
        self.admission = Some(admission);
    }

    /// How long the server asks to be left alone; known with an answer.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.source {
            Source::Multiplexer(_) => None,
            Source::Http(call) => call.retry_after(),
        }
    }

    /// The bare request, and how long it may be silent.
    pub fn into_source(self) -> (Source, Duration) {
        (self.source, self.timeout.idle)
    }

    /// Goes on with the task that its answer named: the next answer is that task's result. What
    /// time the call has is as it was.
    ///
    /// Safe to drop: nothing has changed then.
    pub async fn follow(
        &mut self,
        task: &TaskRef,
        call: &UpstreamRequest,
        tasks: &Tasks,
    ) -> Result<(), SendError> {
        let Some(connection) = self.connection.clone() else {
            return Err(SendError::Unavailable("its connection is not known".to_owned()));
        };
        // Before the lease leaves its place: this may be dropped here.
        let next = connection.call(&task.result(call), None).await?;
        if let Some(leased) = &mut self.leased {
            leased.unsettle();
        }
        let (task, leased) = (task.clone(), self.leased.take());
        let watch = Watch::new(*connection, task, leased, tasks.clone());
        self.watch = Some(Box::new(watch));
        (self.source, self.aside) = (next.source, next.aside);
        self.unhurried = true;
        self.idle_at = Instant::now() + self.timeout.idle;
        Ok(())
    }

    pub fn counted(self, underway: Arc<Underway>) -> Self {
        Self { underway: Some(underway), ..self }
    }

    pub fn sent_to(self, replica: u64, picked: InFlight) -> Self {
        Self { replica: Some(replica), picked: Some(picked), ..self }
    }

    pub fn with(self, failover: Failover) -> Self {
        Self { failover: Some(Box::new(failover)), ..self }
    }

    /// Another replica answered in its place. What time the call has is as it was.
    pub fn succeeded_by(&mut self, other: Self) {
        let total_at = self.total_at;
        let token = self.token.take();
        *self = other;
        self.total_at = total_at;
        self.restore_token(token);
    }

    /// Without deadlines: for a stream that is open for as long as somebody listens.
    pub fn endless(mut self) -> Self {
        let far = Duration::from_secs(60 * 60 * 24 * 365);
        self.timeout = Timeout { idle: far, total: far, ..self.timeout };
        (self.idle_at, self.total_at) = (self.idle_at + far, self.total_at + far);
        self
    }

    /// The next event; every event puts the idle deadline off, up to the total one. The answer is
    /// the last.
    ///
    /// Safe to drop: what was received stays for the next call.
    pub async fn next(&mut self) -> Result<Event, SendError> {
        if self.failover.is_some() {
            return failover::first(self).await;
        }
        self.next_here().await
    }

    /// The same, whatever other replicas could do.
    pub async fn next_here(&mut self) -> Result<Event, SendError> {
        let event = self.next_event().await;
        if let Some(picked) = &mut self.picked {
            picked.hear(&event);
        }
        event
    }

    async fn next_event(&mut self) -> Result<Event, SendError> {
        let event = loop {
            let deadline = self.idle_at.min(self.total_at);
            let came = tokio::time::timeout_at(deadline, self.came()).await;
            let came = came.unwrap_or_else(|_| Err(self.overdue()));
            let came = came.inspect_err(|error| self.failed(error))?;
            let idle_at = Instant::now() + self.timeout.idle;
            self.idle_at = self.answer_by.map_or(idle_at, |answer_by| answer_by.max(idle_at));
            if let Some(event) = came {
                break event;
            }
        };
        Ok(match event {
            Event::Notification(notice) => Event::Notification(self.restore(notice)),
            Event::Answer { body, status } => {
                if status < 500 {
                    self.underway.iter().for_each(|underway| underway.answered());
                }
                self.ended(ending(&body, status));
                if let Some(watch) = self.watch.take() {
                    self.leased = watch.end();
                }
                self.leased.iter_mut().for_each(Leased::settle);
                Event::Answer { body, status }
            }
            Event::ServerRequest(question) => {
                // A server that asks is well, however long the answer takes.
                self.unhurried = true;
                self.ended(AttemptOutcome::Answered);
                if &*question.method == "roots/list" {
                    self.leased.iter_mut().for_each(Leased::asked_for_roots);
                }
                Event::ServerRequest(question)
            }
            event @ Event::Resumable { .. } => event,
        })
    }

    /// What the server says; none where it only shows that it lives.
    async fn came(&mut self) -> Result<Option<Event>, SendError> {
        let heard = heard(&mut self.source, self.aside.as_mut());
        let Some(watch) = &mut self.watch else { return heard.await.map(Some) };
        tokio::select! {
            // Both keep what they have when dropped.
            event = heard => event.map(Some),
            // Boxed: rare, and large.
            () = Box::pin(watch.beat()) => Ok(None),
        }
    }

    /// What the server asked was passed on: whoever answers has `patience`, in which the server
    /// need give no sign of life.
    pub fn allow_answer(&mut self, patience: Duration) {
        self.unhurried = true;
        let answer_by = Instant::now() + patience;
        self.answer_by = Some(answer_by);
        self.idle_at = self.idle_at.max(answer_by);
        self.total_at = self.total_at.max(answer_by);
    }

    /// It was left alone for so long, which is not to be the server's fault.
    pub fn postpone(&mut self, away: Duration) {
        self.unhurried = true;
        self.idle_at = Instant::now() + self.timeout.idle;
        self.total_at += away;
    }

    /// Cancels it, and says why to a server that is told.
    pub fn cancel(mut self, reason: String) {
        match &mut self.source {
            Source::Multiplexer(call) => call.give_reason(reason),
            Source::Http(call) => call.give_reason(reason),
        }
    }

    /// Its answer, whatever else is said on the way; questions are refused.
    pub async fn answer(mut self) -> Result<Body, SendError> {
        loop {
            if let Event::Answer { body, .. } = self.next().await? {
                return Ok(body);
            }
        }
    }

    /// A server that breaks off before it begins to answer is away, whatever was asked of it.
    fn ending_of(&self, error: &SendError) -> AttemptOutcome {
        let begun = match &self.source {
            Source::Multiplexer(_) => false,
            Source::Http(call) => call.has_begun(),
        };
        let away = matches!(error, SendError::Unavailable(_))
            || !begun && matches!(error, SendError::Lost(_));
        if away { AttemptOutcome::Disconnected } else { error.ending() }
    }

    /// Ends the attempt; what was never sent counts in no limit.
    fn failed(&mut self, error: &SendError) {
        self.ended(self.ending_of(error));
        if error.is_unsent() {
            self.admission.iter().for_each(Admission::give_back);
        }
    }

    fn ended(&mut self, ending: AttemptOutcome) {
        let took = (!self.unhurried).then(|| self.since.elapsed());
        if let Some(attempt) = self.attempt.take() {
            attempt.end(ending, took);
        }
    }

    fn overdue(&self) -> SendError {
        let is_held_back = match &self.source {
            Source::Multiplexer(call) => call.is_held_back(),
            Source::Http(call) => call.is_held_back(),
        };
        if is_held_back {
            SendError::NoRoom
        } else if self.total_at <= self.idle_at {
            SendError::Total(self.timeout.total)
        } else {
            SendError::Idle(self.timeout.idle)
        }
    }

    fn restore(&self, notice: ServerNotification) -> ServerNotification {
        let Some(token) = self.token.as_ref().filter(|_| notice.method == Some(Method::Progress))
        else {
            return notice;
        };
        let edits: &[(&str, Option<&[u8]>)] = &[(PROGRESS_TOKEN, Some(token.bytes()))];
        ServerNotification {
            params: splice::edit(&notice.params, edits),
            whole: splice::edit_within(&notice.whole, "params", edits),
            ..notice
        }
    }
}

/// How a request went that was answered so. A tool's own error is an answer.
fn ending(body: &Body, status: u16) -> AttemptOutcome {
    failure(body, status).map_or(AttemptOutcome::Answered, AttemptOutcome::Failed)
}

/// Why an answer is a failure of the server all the same.
pub fn failure(body: &Body, status: u16) -> Option<Cause> {
    let Body::Error(error) = body else { return None };
    match status {
        429 => Some(Cause::TooManyRequests),
        500.. => Some(Cause::ServerError),
        _ => (code_of(error) == INTERNAL_ERROR).then_some(Cause::InternalError),
    }
}

async fn heard(
    source: &mut Source,
    aside: Option<&mut mpsc::Receiver<Event>>,
) -> Result<Event, SendError> {
    let Some(aside) = aside else { return source.next().await };
    tokio::select! {
        // Both keep what they have when dropped.
        Some(event) = aside.recv() => Ok(event),
        event = source.next() => event,
    }
}
