//! The requests that are sent for one call, one after the other: again where one failed that may be
//! repeated, where its session was gone, where a successor on trial failed it, or with answers.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    call::{ReplicaId, UpstreamRequest, event::Event, tasks::Tasks},
    mcp::{message::Body, method::Method, version::Era},
    park::{Parked, state::ReplicaRef},
    pipeline::{
        context::{Context, shown},
        fault::Fault,
        request::{
            attempts::Attempts,
            canary::{self, CanaryCall, CanaryVerdict, Selected},
            resolve::Resolved,
            resume::Unparked,
            visibility,
        },
    },
    resilience::Cause,
    telemetry::{Counter, throttle},
    upstream::{Clearance, Exchange, Reservation, SendError, Sent, TaskRef, Upstream},
};

/// Yields what comes of the request that is sent now.
#[derive(Debug)]
pub struct Resend {
    /// The call as its upstream gets it.
    pub request: Resolved,
    pub upstream: Arc<Upstream>,
    /// The era spoken to the upstream.
    pub era: Era,
    attempts: Arc<Attempts>,
    /// The call is with a successor on trial.
    canary: Option<Box<CanaryCall>>,
    state: State,
    /// The replica that has it, of several.
    replica: Option<ReplicaId>,
    /// The proof that it was sent, for what it leads to.
    sent: Option<Sent>,
    /// Nothing came yet: it may be sent anew where that is safe.
    untouched: bool,
    started_at: Instant,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "the whole is boxed, and this is its usual state")]
enum State {
    /// Nothing is under way: not yet, or not any more.
    Idle,
    Sending(Sending),
    Underway(Exchange),
}

/// A request on its way. Kept from one poll to the next: a server that takes long to open is not
/// opened anew each time that somebody looks.
struct Sending(Pin<Box<dyn Future<Output = Result<Exchange, SendError>> + Send>>);

impl Resend {
    /// Makes the link of a call that is to be sent: to its upstream, or to that one's successor on
    /// trial.
    pub fn select(context: &Context, request: Resolved, clearance: Clearance) -> Self {
        Self::of(context, canary::select(context, request, clearance))
    }

    /// Makes the link of a call that may not have to be sent, and then goes to its own upstream.
    pub fn stable(context: &Context, request: Resolved, clearance: Clearance) -> Self {
        Self::of(context, Selected { request, clearance, canary: None })
    }

    /// Goes on with a call that was parked.
    pub fn unparked(context: &Context, unparked: Unparked) -> Self {
        let Unparked { parked, request, clearance } = unparked;
        let Parked { mut exchange, upstream, .. } = parked;
        exchange.restore_token(context.call.meta.progress_token.clone());
        let mut resend = Self::stable(context, request, clearance);
        resend.upstream = upstream;
        resend.untouched = false;
        resend.started(exchange);
        resend
    }

    fn of(context: &Context, selected: Selected) -> Self {
        let Selected { request, clearance, canary } = selected;
        let attempts = Attempts::new(context, &request, clearance);
        let upstream = Arc::clone(&request.target.upstream);
        let era = upstream.peer().map_or(Era::Legacy, |peer| peer.version.era());
        Self {
            request,
            upstream,
            era,
            attempts,
            canary,
            state: State::Idle,
            replica: None,
            sent: None,
            untouched: true,
            started_at: Instant::now(),
        }
    }

    /// Sends the request for the first time; where a successor cannot take it, to its own upstream.
    ///
    /// # Errors
    /// Where a breaker or a limit refuses it, or there is no connection for it.
    pub async fn send(&mut self, context: &Context) -> Result<(), Fault> {
        // Boxed: it stays for as long as the sending does, which is large.
        let upstream_request = Box::new(self.request.to_upstream(&context.call));
        let sent = match self.attempts.send(&upstream_request).await {
            // A limit's refusal is no fault of the successor's.
            Err(error) if !matches!(error, SendError::Limited(_)) && self.canary.is_some() => {
                // Boxed: rare, and large.
                Box::pin(self.send_to_stable(context, error)).await
            }
            sent => sent,
        };
        let mut exchange =
            sent.map_err(|error| visibility::failed(context, &self.request.target, error))?;
        if context.call.method == Method::TasksResult {
            // The exchange is silent until the task is over; whoever asks looks at that meanwhile.
            exchange.allow_answer(self.attempts.timeout.total);
        }
        self.started(exchange);
        Ok(())
    }

    async fn send_to_stable(
        &mut self,
        context: &Context,
        error: SendError,
    ) -> Result<Exchange, SendError> {
        let Some(mut canary) = self.canary.take() else { return Err(error) };
        canary.record(true);
        self.fall_back(context, *canary);
        let upstream_request = self.request.to_upstream(&context.call);
        self.attempts.send(&upstream_request).await
    }

    /// Yields the next event of the call. Safe to drop.
    ///
    /// # Errors
    /// Where the request failed, and is not sent again.
    pub async fn next(&mut self, context: &Context) -> Result<Event, Fault> {
        loop {
            let event = match &mut self.state {
                State::Underway(exchange) => {
                    let event = exchange.next().await;
                    self.hear(context, event)?
                }
                State::Sending(sending) => {
                    let sent = (&mut sending.0).await;
                    let exchange = sent.map_err(|error| self.fault(context, error))?;
                    self.started(exchange);
                    None
                }
                State::Idle => return Err(context.bug("a call that is over was asked for more")),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// Passes an event on; none where the request is sent again.
    fn hear(
        &mut self,
        context: &Context,
        event: Result<Event, SendError>,
    ) -> Result<Option<Event>, Fault> {
        let untouched = std::mem::replace(&mut self.untouched, false);
        if let State::Underway(exchange) = &self.state {
            // Another replica may have answered in the place of the first.
            self.era = exchange.era;
            self.replica = exchange.replica;
            context.record(|entry| {
                entry.heard(|| self.upstream.replica_url(self.replica?));
            });
        }
        if self.canary.is_some() && self.leaves_successor(context, &event, untouched) {
            return Ok(None);
        }
        match event {
            Ok(Event::Answer { body, status }) => {
                if untouched && self.repeats_after(context, &body, status) {
                    return Ok(None);
                }
                if let Body::Result(result) = &body
                    && !result.is_object()
                {
                    let error = SendError::Garbage("a result that is no object".to_owned());
                    return Err(self.fault(context, self.upstream.failed(error)));
                }
                Ok(Some(Event::Answer { body, status }))
            }
            Ok(event) => Ok(Some(event)),
            // The call was not processed: it is sent once more, on a session opened anew.
            Err(SendError::SessionGone) if untouched => {
                self.send_again(self.request.to_upstream(&context.call));
                Ok(None)
            }
            Err(error) => self.fail_or_repeat(context, error, untouched).map(|()| None),
        }
    }

    /// Whether the call is sent again, to its own upstream: the successor on trial failed it.
    fn leaves_successor(
        &mut self,
        context: &Context,
        event: &Result<Event, SendError>,
        untouched: bool,
    ) -> bool {
        let Some(canary) = &mut self.canary else { return false };
        let verdict = canary.hear(event, untouched);
        if verdict == CanaryVerdict::Open {
            return false;
        }
        let Some(canary) = self.canary.take() else { return false };
        let unsent = event.as_ref().is_err_and(SendError::is_unsent);
        let may = untouched && verdict == CanaryVerdict::Failed && context.call.place.is_none();
        if !may || !(unsent || self.request.is_repeatable(context.call.method)) {
            return false;
        }
        self.fall_back(context, *canary);
        self.send_again(self.request.to_upstream(&context.call));
        true
    }

    fn fall_back(&mut self, context: &Context, canary: CanaryCall) {
        let Selected { request, clearance, .. } = canary.fall_back();
        self.attempts = Attempts::new(context, &request, clearance);
        self.upstream = Arc::clone(&request.target.upstream);
        self.replica = None;
        self.request = request;
    }

    /// Whether the request is sent again, having been answered so.
    fn repeats_after(&mut self, context: &Context, body: &Body, status: u16) -> bool {
        let State::Underway(exchange) = &self.state else { return false };
        let backoff = self.attempts.backoff_after_answer(body, status, exchange.retry_after());
        backoff.is_some_and(|backoff| {
            self.repeat(context, backoff);
            true
        })
    }

    /// Fails the call, or sends the request again where nothing came yet.
    fn fail_or_repeat(
        &mut self,
        context: &Context,
        error: SendError,
        untouched: bool,
    ) -> Result<(), Fault> {
        let error = self.upstream.failed(error);
        if error.cause() == Some(Cause::Timeout) {
            context.gate.counters.add(Counter::UpstreamTimeouts);
            self.cancel(Some(error.to_string()));
        }
        // The backoff is asked only where it may be: a retry that is allowed has been counted.
        let backoff = if untouched { self.attempts.backoff_after(&error) } else { None };
        let Some(backoff) = backoff else { return Err(self.fault(context, error)) };
        self.repeat(context, backoff);
        Ok(())
    }

    /// Begins to send the request once more, as if for the first time.
    fn repeat(&mut self, context: &Context, backoff: Duration) {
        let attempts = Arc::clone(&self.attempts);
        let upstream_request = self.request.to_upstream(&context.call);
        self.replace_exchange(async move {
            tokio::time::sleep(backoff).await;
            attempts.send(&upstream_request).await
        });
        self.untouched = true;
    }

    /// Begins to send a request once more: on a session opened anew, or with a client's answers.
    pub fn send_again(&mut self, upstream_request: UpstreamRequest) {
        let attempts = Arc::clone(&self.attempts);
        let upstream_request = UpstreamRequest { replica: self.replica, ..upstream_request };
        let sent = self.sent.clone();
        self.replace_exchange(async move {
            match sent {
                Some(sent) => attempts.continue_call(&upstream_request, &sent).await,
                None => attempts.send(&upstream_request).await,
            }
        });
    }

    /// Drops the exchange of before, and its places with it, before the next one begins.
    fn replace_exchange(
        &mut self,
        sending: impl Future<Output = Result<Exchange, SendError>> + Send + 'static,
    ) {
        self.state = State::Sending(Sending(Box::pin(sending)));
    }

    fn started(&mut self, exchange: Exchange) {
        self.era = exchange.era;
        self.replica = exchange.replica;
        self.state = State::Underway(exchange);
    }

    /// Takes the bytes that the answer counts as among all that are being read from servers.
    pub fn take_reservation(&mut self) -> Option<Reservation> {
        let State::Underway(exchange) = &mut self.state else { return None };
        exchange.take_reservation()
    }

    /// Returns when the time of the call is over.
    pub fn total_at(&self) -> Instant {
        match &self.state {
            State::Underway(exchange) => exchange.total_at(),
            State::Sending(_) | State::Idle => self.started_at + self.total(),
        }
    }

    /// Ends what is under way; a server is told the reason, if there is one.
    pub fn cancel(&mut self, reason: Option<String>) {
        let state = std::mem::replace(&mut self.state, State::Idle);
        if let (State::Underway(exchange), Some(reason)) = (state, reason) {
            exchange.cancel(reason);
        }
    }

    /// Makes every failure from now on the call's own: its client was told that it goes on.
    pub fn forbid_repeats(&mut self) {
        self.untouched = false;
    }

    /// Whether a request is under way, whose server may say something at any time.
    pub fn is_underway(&self) -> bool {
        matches!(self.state, State::Underway(_))
    }

    /// Takes the exchange out, and ends with that.
    pub fn take_exchange(&mut self) -> Option<Exchange> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Underway(exchange) => Some(exchange),
            State::Idle | State::Sending(_) => None,
        }
    }

    /// Gives a client `patience` to answer what its server asked.
    pub fn allow_answer(&mut self, patience: Duration) {
        if let State::Underway(exchange) = &mut self.state {
            exchange.allow_answer(patience);
        }
    }

    /// Extends the deadlines by the time that the client took to answer.
    pub fn postpone(&mut self, away: Duration) {
        if let State::Underway(exchange) = &mut self.state {
            exchange.postpone(away);
        }
    }

    /// Goes on with the task that the answer named: the next answer is that task's result.
    ///
    /// # Errors
    /// Where its result cannot be asked for.
    pub async fn follow(
        &mut self,
        context: &Context,
        task: &TaskRef,
        tasks: &Tasks,
    ) -> Result<(), Fault> {
        let State::Underway(exchange) = &mut self.state else {
            return Err(context.bug("a task of a call that is not under way"));
        };
        let followed = exchange.follow(task, &self.request.to_upstream(&context.call), tasks).await;
        followed.map_err(|error| self.fault(context, error))
    }

    /// Keeps that the call was sent, for what it leads to: that is brought to its end on the places
    /// that it has.
    pub fn note_sent(&mut self) -> Option<Sent> {
        if let State::Underway(exchange) = &self.state {
            self.sent = exchange.sent().or(self.sent.take());
        }
        self.sent.clone()
    }

    pub fn clearance(&self) -> &Clearance {
        &self.attempts.clearance
    }

    /// The request for the replica that has the call.
    pub fn next_request(&self, context: &Context) -> UpstreamRequest {
        UpstreamRequest { replica: self.replica, ..self.request.to_upstream(&context.call) }
    }

    /// Returns the replica that knows what the server gave this call.
    pub fn place(&self) -> ReplicaRef {
        ReplicaRef { upstream: self.upstream.name().clone(), replica: self.replica }
    }

    /// When the call began, as far as this upstream is concerned.
    pub fn started_at(&self) -> Instant {
        self.started_at
    }

    /// How long the whole call may take.
    pub fn total(&self) -> Duration {
        self.attempts.timeout.total
    }

    /// Returns what a failure of the upstream is to the client, and logs it.
    pub fn fault(&self, context: &Context, error: SendError) -> Fault {
        let method = context.call.method;
        let upstream = self.upstream.name().as_str();
        throttle::line(("a call", upstream, error.kind()), |more| {
            tracing::warn!(
                request = %context.call.request,
                caller = context.logged_caller().as_deref(),
                route = context.path().as_str(),
                upstream,
                method = method.name(),
                name = shown(&self.request.target.own),
                %error,
                more,
                "a call failed"
            );
        });
        visibility::failed(context, &self.request.target, error)
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending(…)")
    }
}
