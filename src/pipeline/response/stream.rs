//! A response as whoever serves the client reads it.

use std::sync::Arc;

use super::{
    background,
    chain::{ResponseChain, ResponseStep},
};
use crate::{
    audit::CacheUse,
    cache::Lookup,
    mcp::message::Body,
    park::task::Task,
    pipeline::{
        bridge::Bridge,
        call::Call,
        context::Context,
        event::ClientEvent,
        fault::Fault,
        request::{resolve::Resolved, resume::Unparked},
        tasks::gateway,
    },
    session::SessionRequest,
    telemetry::Counters,
    upstream::{Clearance, SendError},
};

/// A call under way, read event by event. Dropped before its end, it is cancelled.
#[derive(Debug)]
pub struct ResponseStream {
    context: Arc<Context>,
    /// None once it is over, or goes on as a task.
    response: Option<Box<ResponseChain>>,
    /// Ends with the call; none for a client without sessions.
    underway: Option<SessionRequest>,
}

impl ResponseStream {
    /// Answers a call that is let in: from memory where the cache has it, else by its upstream.
    ///
    /// # Errors
    /// Where a call of its id is under way in its session.
    pub fn new(
        context: Arc<Context>,
        request: Resolved,
        clearance: Clearance,
        mut found: Lookup<SendError>,
    ) -> Result<Self, Fault> {
        let underway = context.begin()?;
        let used = match &found {
            Lookup::Bypass => None,
            Lookup::Join(..) => Some(CacheUse::Miss),
            Lookup::Hit(_) => Some(CacheUse::Hit),
            Lookup::Stale(..) => Some(CacheUse::Stale),
        };
        if let Some(used) = used {
            context.record(|entry| entry.cached(used));
        }
        if let Lookup::Stale(_, lead) = &mut found
            && let Some(lead) = lead.take()
        {
            background::refresh(&context, request.clone(), clearance.clone(), lead);
        }
        let response = ResponseChain::new(&context, request, clearance, found);
        Ok(Self { context, response: Some(Box::new(response)), underway })
    }

    /// Sends the call, unless its answer is kept or another call asks already.
    ///
    /// # Errors
    /// Where it cannot be sent, and nothing is kept that may be served all the same.
    pub async fn send(&mut self) -> Result<(), Fault> {
        match &mut self.response {
            Some(response) => response.send(&self.context).await,
            None => Err(self.context.bug("a call that is over was to be sent")),
        }
    }

    /// Goes on with a call that was parked, for the client's retry.
    pub fn resume(context: Arc<Context>, unparked: Unparked) -> Self {
        let response = ResponseChain::unparked(&context, unparked);
        Self { context, response: Some(Box::new(response)), underway: None }
    }

    /// Returns what the client gets next; after an answer or a fault there is no more.
    ///
    /// Safe to drop: every link keeps what it has.
    ///
    /// # Errors
    /// What the client is told in place of an answer.
    pub async fn next(&mut self) -> Result<ClientEvent, Fault> {
        let Some(response) = &mut self.response else {
            return Err(self.context.bug("a call that is over was asked for more"));
        };
        let step = match &self.underway {
            Some(underway) if response.outgoing.is_empty() => tokio::select! {
                // Both keep what they have when dropped.
                step = response.next(&self.context) => Some(step),
                reason = underway.cancelled() => {
                    response.cancel(reason);
                    None
                }
            },
            Some(_) | None => None,
        };
        let step = match step {
            Some(step) => step,
            None => response.next(&self.context).await,
        };
        match step? {
            ResponseStep::Event(event) => Ok(event),
            ResponseStep::Task(task) => Ok(self.become_task(&task)),
        }
    }

    /// Lets the call go on by itself: its client comes back for it.
    fn become_task(&mut self, task: &Arc<Task>) -> ClientEvent {
        let body = Body::Result(gateway::created(task).into());
        if let Some(response) = self.response.take() {
            let running = response.run_to_end(Arc::clone(&self.context), Arc::clone(task));
            self.context.gate.tasks.spawn("task: run", running);
        }
        ClientEvent::Answer { body, status: 200 }
    }

    /// Refuses at once what the upstream asks from now on: the client has no stream to hear it.
    pub fn refuse_questions(&mut self) {
        self.response.iter_mut().for_each(|response| response.refuse_questions());
    }

    /// Refuses what the upstream asks from now on, and what was asked and not answered.
    pub fn refuse_all_questions(&mut self) {
        let bridge = self.response.as_mut().map(|response| &mut response.bridge);
        if let Some(Bridge::Requests(requests)) = bridge {
            requests.refuse_all();
        }
    }

    pub fn call(&self) -> &Call {
        &self.context.call
    }

    pub fn counters(&self) -> &Counters {
        &self.context.gate.counters
    }
}
