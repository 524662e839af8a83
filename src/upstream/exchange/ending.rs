//! How a request ends: what that says of the server, and where its places at the upstream go.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use crate::{
    call::spans::SpanGuard,
    limit::Admission,
    mcp::{
        error::{INTERNAL_ERROR, code_of},
        message::Body,
    },
    resilience::{Attempt, AttemptOutcome, Cause},
    upstream::{
        exchange::{Exchange, Source, error::SendError},
        proof::Sent,
        replica::backoff::Underway,
        transport::read_budget::Reservation,
    },
};

impl Exchange {
    /// The span that ends with it.
    pub fn traced(self, span: Option<SpanGuard>) -> Self {
        Self { span: span.map(Box::new), ..self }
    }

    /// The count of what is under way, which it is part of until it ends.
    pub fn counted(self, underway: Arc<Underway>) -> Self {
        Self { underway: Some(underway), ..self }
    }

    /// Units that limits of the upstream took for it; none where there are no such limits.
    pub fn cost(&self) -> Option<NonZeroU32> {
        self.admission.as_ref().and_then(Admission::cost)
    }

    pub fn cleared(self, admission: Admission, attempt: Attempt) -> Self {
        let let_through = Some(attempt.continuation());
        Self { attempt: Some(attempt), let_through, admission: Some(admission), ..self }
    }

    /// Returns the proof that it was sent, for what it leads to; none where it is the gate's own,
    /// or has given its places back.
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

    /// Takes the bytes that the answer counts as among all that are being read, for as long as it
    /// is held after this is dropped; none where it is small.
    pub fn take_reservation(&mut self) -> Option<Reservation> {
        match &mut self.source {
            Source::Multiplexer(call) => call.take_reservation(),
            Source::Http(call) => call.take_reservation(),
        }
    }

    /// How long the server asks to be left alone; known with an answer.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.source {
            Source::Multiplexer(_) => None,
            Source::Http(call) => call.retry_after(),
        }
    }

    /// Ends the attempt; what was never sent counts in no limit.
    pub(super) fn failed(&mut self, error: &SendError) {
        self.ended(self.ending_of(error));
        if error.is_unsent() {
            self.admission.iter().for_each(Admission::give_back);
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

    pub(super) fn ended(&mut self, ending: AttemptOutcome) {
        let took = (!self.unhurried).then(|| self.since.elapsed());
        if let Some(attempt) = self.attempt.take() {
            attempt.end(ending, took);
        }
    }
}

/// How a request went that was answered so. A tool's own error is an answer.
pub fn ending(body: &Body, status: u16) -> AttemptOutcome {
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
