//! Answers that several calls share: of a cache, or of one call for all who ask the same.

use tokio::time::timeout_at;

use crate::{
    audit::CacheUse,
    cache::{self, CachedResult, FlightResult},
    call::event::Event,
    mcp::message::Body,
    pipeline::{context::Context, fault::Fault},
    telemetry::Counter,
    upstream::SendError,
};

use super::resend::Resend;

pub type Lead = cache::FlightLeader<SendError>;
type Wait = cache::Follower<SendError>;
type Join = cache::JoinOutcome<SendError>;

/// Yields what the server says, or what is kept of it.
#[derive(Debug)]
pub struct Coalescing {
    pub resend: Resend,
    /// A kept result that answers the call.
    serving: Option<CachedResult>,
    /// Another call asks the same: its answer is waited for.
    waiting: Option<Wait>,
    /// Others wait for the answer of this call.
    lead: Option<Lead>,
    /// Served where the upstream fails.
    fallback: Option<CachedResult>,
    /// A call that was waited for failed: the next failure is this one's own.
    retried: bool,
}

impl Coalescing {
    /// Makes the link of an answer that is this call's own.
    pub fn none(resend: Resend) -> Self {
        Self { resend, serving: None, waiting: None, lead: None, fallback: None, retried: false }
    }

    /// Makes the link of an answer that is kept.
    pub fn hit(resend: Resend, kept: CachedResult) -> Self {
        Self { serving: Some(kept), ..Self::none(resend) }
    }

    /// Makes the link of a call that others wait for.
    pub fn leading(resend: Resend, lead: Lead, fallback: Option<CachedResult>) -> Self {
        Self { lead: Some(lead), fallback, ..Self::none(resend) }
    }

    /// Makes the link of a call that waits for another.
    pub fn waiting(resend: Resend, wait: Wait, fallback: Option<CachedResult>) -> Self {
        Self { waiting: Some(wait), fallback, ..Self::none(resend) }
    }

    /// Sends the call, unless its answer is kept or another one asks already.
    ///
    /// # Errors
    /// Where it cannot be sent, and nothing is kept that may be served all the same.
    pub async fn send(&mut self, context: &Context) -> Result<(), Fault> {
        if self.serving.is_some() || self.waiting.is_some() {
            return Ok(());
        }
        let sent = self.resend.send(context).await;
        sent.or_else(|fault| self.serve_stale(context, fault))
    }

    /// Yields the next event of the call. Safe to drop.
    ///
    /// # Errors
    /// Where the upstream fails, and nothing is kept that may be served all the same.
    pub async fn next(&mut self, context: &Context) -> Result<Event, Fault> {
        loop {
            if let Some(kept) = self.serving.take() {
                self.resend.era = kept.era;
                return Ok(Event::Answer { body: Body::Result(kept.served().into()), status: 200 });
            }
            if self.waiting.is_some() {
                // Boxed: rare, and large.
                let waited = Box::pin(self.wait(context)).await;
                waited.or_else(|fault| self.serve_stale(context, fault))?;
                continue;
            }
            match self.resend.next(context).await {
                Ok(event) => return Ok(self.shared(context, event)),
                Err(fault) => self.serve_stale(context, fault)?,
            }
        }
    }

    /// Waits for the call that asks the same, and does what its end demands.
    async fn wait(&mut self, context: &Context) -> Result<(), Fault> {
        let Some(wait) = &mut self.waiting else { return Ok(()) };
        let total = self.resend.total();
        let landed = timeout_at(self.resend.started_at() + total, wait.result()).await;
        let Ok(landing) = landed else {
            return Err(self.resend.fault(context, SendError::Total(total)));
        };
        let Some(wait) = self.waiting.take() else { return Ok(()) };
        match landing {
            FlightResult::Cached(kept) => {
                context.record(|entry| entry.cached(CacheUse::Joined));
                self.serving = Some(kept);
                return Ok(());
            }
            FlightResult::Failed(error) if self.retried => {
                return Err(self.resend.fault(context, error));
            }
            FlightResult::Failed(_) => self.retried = true,
            // The call asks for itself, as all who waited do.
            FlightResult::Private => {
                self.resend.send_again(self.resend.next_request(context));
                return Ok(());
            }
            FlightResult::Abandoned => (),
        }
        match wait.rejoin() {
            Join::Follower(wait) => self.waiting = Some(wait),
            Join::Leader(lead) => {
                self.lead = Some(lead);
                self.resend.send_again(self.resend.next_request(context));
            }
        }
        Ok(())
    }

    /// Keeps what the upstream said where it may be, before anything is done to it, and gives it to
    /// all who wait for it. What was asked in mid-call makes the answer this call's own. An answer
    /// does not say that it is good for longer than it is kept.
    fn shared(&mut self, context: &Context, event: Event) -> Event {
        match &event {
            Event::Answer { body, status } => {
                let Some(lead) = self.lead.take() else { return event };
                self.fallback = None;
                let cache = &context.snapshot.cache;
                let kept = match body {
                    Body::Result(result) => {
                        cache.cacheable(lead.subject(), result, self.resend.era)
                    }
                    Body::Error(_) => None,
                };
                let Some(kept) = kept else {
                    lead.complete_private();
                    return event;
                };
                let clipped = kept.first_served();
                let status = *status;
                lead.complete(kept);
                if let Some(result) = clipped {
                    return Event::Answer { body: Body::Result(result.into()), status };
                }
            }
            Event::ServerRequest(_) => {
                self.fallback = None;
                self.lead.take().into_iter().for_each(Lead::complete_private);
            }
            Event::Notification(_) | Event::Resumable { .. } => (),
        }
        event
    }

    /// Tells those who wait that the call failed, and serves what is still good for that.
    fn serve_stale(&mut self, context: &Context, fault: Fault) -> Result<(), Fault> {
        let Fault::Upstream { error, .. } = &fault else { return Err(fault) };
        if let Some(lead) = self.lead.take() {
            lead.fail(error.clone());
        }
        let Some(kept) = self.fallback.take() else { return Err(fault) };
        context.gate.counters.add(Counter::CacheStaleOnError);
        context.record(|entry| entry.cached(CacheUse::Stale));
        self.resend.cancel(None);
        self.serving = Some(kept);
        Ok(())
    }

    /// Whether something may come of itself: from the server, or from the call that is waited for.
    pub fn is_listening(&self) -> bool {
        self.waiting.is_some() || self.resend.is_underway()
    }

    /// Ends what is under way; a server is told the reason, if there is one.
    pub fn cancel(&mut self, reason: Option<String>) {
        self.waiting = None;
        self.serving = None;
        self.resend.cancel(reason);
    }
}
