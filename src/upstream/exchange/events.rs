//! Events of a request, and how long each is waited for.

use std::time::Duration;

use tokio::{sync::mpsc, time::Instant};

use crate::{
    call::event::{Event, ServerNotification},
    config::Timeout,
    mcp::{message::Body, meta::PROGRESS_TOKEN, method::Method, raw::Raw, splice},
    resilience::AttemptOutcome,
    upstream::{
        cluster::failover,
        connection::pool::Leased,
        exchange::{Exchange, Source, ending::ending, error::SendError},
    },
};

impl Source {
    /// The next event of the bare request.
    ///
    /// # Errors
    /// Where the request is lost, or its answer is no message.
    pub async fn next(&mut self) -> Result<Event, SendError> {
        match self {
            Self::Multiplexer(call) => call.next().await,
            Self::Http(call) => call.next().await,
        }
    }
}

impl Exchange {
    /// The next event; every event puts the idle deadline off, up to the total one. The answer is
    /// the last.
    ///
    /// Safe to drop: what was received stays for the next call.
    ///
    /// # Errors
    /// Where the request is lost or late, or its answer is no valid one. There is no further event
    /// then.
    pub async fn next(&mut self) -> Result<Event, SendError> {
        if self.failover.is_some() {
            return failover::first(self).await;
        }
        self.next_here().await
    }

    /// The next event of this replica, whatever other replicas could do.
    ///
    /// # Errors
    /// As [`Exchange::next`].
    pub async fn next_here(&mut self) -> Result<Event, SendError> {
        let event = self.next_event().await;
        if let Some(picked) = &mut self.picked {
            picked.hear(&event);
        }
        event
    }

    /// Waits for the answer, whatever else is said on the way; questions are refused.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn answer(mut self) -> Result<Body, SendError> {
        loop {
            if let Event::Answer { body, .. } = self.next().await? {
                return Ok(body);
            }
        }
    }

    async fn next_event(&mut self) -> Result<Event, SendError> {
        let event = loop {
            let deadline = self.idle_at.min(self.total_at);
            let came = tokio::time::timeout_at(deadline, self.came()).await;
            let came = came.unwrap_or_else(|_| Err(self.overdue()));
            let came = came.inspect_err(|error| {
                self.failed(error);
                self.end_span(Some(error.kind()));
            })?;
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
                self.end_span(error_word(&body));
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

    fn end_span(&mut self, error: Option<&'static str>) {
        if let Some(span) = self.span.take() {
            span.end(error);
        }
    }

    /// Waits for what the server says; none where it only shows that it lives.
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

    /// Notes that what the server asked was passed on: whoever answers has `patience`, in which the
    /// server need give no sign of life.
    pub fn allow_answer(&mut self, patience: Duration) {
        self.unhurried = true;
        let answer_by = Instant::now() + patience;
        self.answer_by = Some(answer_by);
        self.idle_at = self.idle_at.max(answer_by);
        self.total_at = self.total_at.max(answer_by);
    }

    /// Extends the deadlines by `away`: waiting for the client does not count against the server.
    pub fn postpone(&mut self, away: Duration) {
        self.unhurried = true;
        self.idle_at = Instant::now() + self.timeout.idle;
        self.total_at += away;
    }

    /// No later than this, whatever the time of a whole call: it was sent before.
    pub fn until(mut self, deadline: Instant) -> Self {
        self.total_at = self.total_at.min(deadline);
        self
    }

    /// Returns when its time is over, whatever the server says.
    pub fn total_at(&self) -> Instant {
        self.total_at
    }

    /// Takes the deadlines off, for a stream that is open for as long as somebody listens.
    pub fn endless(mut self) -> Self {
        let far = Duration::from_secs(60 * 60 * 24 * 365);
        self.timeout = Timeout { idle: far, total: far, ..self.timeout };
        (self.idle_at, self.total_at) = (self.idle_at + far, self.total_at + far);
        self
    }

    /// Cancels it, and says why to a server that is told.
    pub fn cancel(mut self, reason: String) {
        match &mut self.source {
            Source::Multiplexer(call) => call.give_reason(reason),
            Source::Http(call) => call.give_reason(reason),
        }
    }

    /// Goes on with another replica's exchange. The time that the call has is as it was.
    pub fn succeeded_by(&mut self, other: Self) {
        let total_at = self.total_at;
        let token = self.token.take();
        *self = other;
        self.total_at = total_at;
        self.restore_token(token);
    }

    /// Progress is the client's by this token from now on.
    pub fn restore_token(&mut self, token: Option<Raw>) {
        self.token = token.or(self.token.take());
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

    /// The bare request, and how long it may be silent.
    pub fn into_source(self) -> (Source, Duration) {
        (self.source, self.timeout.idle)
    }
}

/// The word that a span has for an answer that is an error.
fn error_word(body: &Body) -> Option<&'static str> {
    match body {
        Body::Error(_) => Some("error"),
        Body::Result(result) => result.is_error().then_some("tool_error"),
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
