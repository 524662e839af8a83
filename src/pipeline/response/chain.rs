//! The chain itself: its links in their order, and what it yields.

use std::sync::Arc;

use tokio::time::timeout_at;

use super::{
    coalesce::Coalescing, guard::Guarded, observe::Observe, redact, resend::Resend, translate,
};
use crate::{
    cache::{JoinOutcome as Join, Lookup},
    guard::LinkOrigin,
    mcp::{message::Body, version::Era},
    park::task::Task,
    pipeline::{
        bridge::{Bridge, Bridged, Outgoing, retry::InputRequired},
        context::Context,
        event::ClientEvent,
        fault::Fault,
        request::{cache::InvalidateOnDrop, resolve::Resolved, resume::Unparked},
        tasks::server::{self, ServerTask},
    },
    upstream::{Clearance, SendError},
};

/// The chain, from the upstream to the client.
#[derive(Debug)]
pub struct ResponseChain {
    pub guarded: Guarded,
    pub bridge: Bridge,
    pub observe: Observe,
    pub outgoing: Outgoing,
}

/// An item that a response yields.
pub enum ResponseStep {
    Event(ClientEvent),
    /// The call goes on as this task, and whoever reads the response is told so.
    Task(Arc<Task>),
}

impl ResponseChain {
    /// The chain of a call that begins.
    pub fn new(
        context: &Arc<Context>,
        request: Resolved,
        clearance: Clearance,
        found: Lookup<SendError>,
    ) -> Self {
        let mut observe = Observe { entry: context.entry.clone(), ..Observe::default() };
        let coalescing = match found {
            Lookup::Bypass => {
                observe.of_sent(context, &request, &clearance);
                Coalescing::none(Resend::select(context, request, clearance))
            }
            Lookup::Join(Join::Leader(lead), fallback) => {
                observe.of_sent(context, &request, &clearance);
                let resend = Resend::select(context, request, clearance);
                Coalescing::leading(resend, lead, fallback)
            }
            Lookup::Join(Join::Follower(wait), fallback) => {
                Coalescing::waiting(Resend::stable(context, request, clearance), wait, fallback)
            }
            Lookup::Hit(kept) | Lookup::Stale(kept, _) => {
                Coalescing::hit(Resend::stable(context, request, clearance), kept)
            }
        };
        Self::of(context, coalescing, observe)
    }

    /// The chain of a call that was parked, and has its answers.
    pub fn unparked(context: &Context, unparked: Unparked) -> Self {
        let observe = Observe {
            entry: context.entry.clone(),
            invalidate: InvalidateOnDrop::of(context, &unparked.request),
            shadow: None,
        };
        let asked = unparked.parked.question_count;
        let coalescing = Coalescing::none(Resend::unparked(context, unparked));
        let response = Self::of(context, coalescing, observe);
        let retry = InputRequired::unparked(context, response.guarded.resend(), asked);
        Self { bridge: Bridge::InputRequired(retry), ..response }
    }

    /// The chain above what several calls share.
    pub fn of(context: &Context, coalescing: Coalescing, observe: Observe) -> Self {
        let bridge = Bridge::new(context, &coalescing.resend);
        let guarded = Guarded::new(ServerTask::new(coalescing));
        Self { guarded, bridge, observe, outgoing: Outgoing::new() }
    }

    /// Sends the call, unless its answer is kept or another call asks already.
    ///
    /// # Errors
    /// Where it cannot be sent, and nothing is kept that may be served all the same.
    pub async fn send(&mut self, context: &Context) -> Result<(), Fault> {
        self.guarded.server_task.coalescing.send(context).await?;
        // The server's era is known for certain now, and the time until a task counts from here.
        self.bridge = Bridge::new(context, self.guarded.resend());
        Ok(())
    }

    /// Returns what the client gets next; after an answer or a fault there is no more. Safe to
    /// drop.
    ///
    /// # Errors
    /// What the client is told in place of an answer; also where that cannot be recorded.
    pub async fn next(&mut self, context: &Context) -> Result<ResponseStep, Fault> {
        let step = self.advance(context).await;
        match &step {
            Ok(ResponseStep::Event(event)) => self.observe.told(event)?,
            // The end of the task is what is recorded.
            Ok(ResponseStep::Task(_)) => (),
            Err(fault) => self.observe.failed(fault),
        }
        step
    }

    async fn advance(&mut self, context: &Context) -> Result<ResponseStep, Fault> {
        loop {
            if let Some(event) = self.outgoing.pop_front() {
                return event.map(ResponseStep::Event);
            }
            let event = match self.bridged(context).await? {
                Bridged::Nothing => continue,
                Bridged::Event(event) => event,
                Bridged::Task(task) => return Ok(ResponseStep::Task(task)),
                Bridged::Answer { body, status } => self.finish(context, body, status),
            };
            if self.outgoing.is_empty() {
                return Ok(ResponseStep::Event(event));
            }
            self.outgoing.push_back(Ok(event));
        }
    }

    /// The next event in the words of the client's era.
    async fn bridged(&mut self, context: &Context) -> Result<Bridged, Fault> {
        if let Bridge::Requests(requests) = &mut self.bridge
            && let Some(round) = requests.round()
        {
            let answered = round.answered().await;
            let resend = self.guarded.resend_mut();
            requests.end_round(context, answered, resend, &mut self.outgoing);
            return Ok(Bridged::Nothing);
        }
        let due = self.bridge.due().filter(|_| self.guarded.is_listening());
        let event = match due {
            None => self.guarded.next(context).await,
            Some(_) if self.bridge.is_due_at_once(context) => {
                return self.bridge.on_due(context, &mut self.guarded, &mut self.outgoing);
            }
            Some(due) => match timeout_at(due, self.guarded.next(context)).await {
                Ok(event) => event,
                // The answer came meanwhile, and is being judged or brought to its end.
                Err(_) if !self.guarded.is_listening() => return Ok(Bridged::Nothing),
                Err(_) => {
                    return self.bridge.on_due(context, &mut self.guarded, &mut self.outgoing);
                }
            },
        };
        let withdrawn = self.guarded.server_task.take_withdrawn();
        self.outgoing.extend(withdrawn.into_iter().map(Ok));
        let event = match event {
            Err(fault) if !self.outgoing.is_empty() => {
                self.outgoing.push_back(Err(fault));
                return Ok(Bridged::Nothing);
            }
            event => event?,
        };
        self.bridge.hear(context, event, &mut self.guarded, &mut self.outgoing)
    }

    /// Makes the final answer fit its client; what goes out already must come before it.
    fn finish(&mut self, context: &Context, body: Body, status: u16) -> ClientEvent {
        self.observe.answered(&body);
        let coalescing = &self.guarded.server_task.coalescing;
        let body = match server::rename(context, coalescing, body) {
            Body::Result(result) => Body::Result(coalescing.resend.request.without_task_of(result)),
            error @ Body::Error(_) => error,
        };
        let era = coalescing.resend.era;
        // A status of the older era says nothing that a client of the newer one reads in it.
        let is_same = era == Era::Modern && context.client().era() == Era::Modern;
        let status = if is_same { status } else { 200 };
        let body = translate::translate(&context.call, body, era);
        let body = redact::redact(context, body);
        if let Body::Result(result) = &body
            && context.route.has_link_readers()
        {
            let upstream = coalescing.resend.request.target.upstream.name();
            let origin = LinkOrigin { route: context.path(), upstream };
            let max = context.limits().links_max;
            context.gate.links.note(origin, context.caller(), result, max);
        }
        if let Bridge::Requests(requests) = &mut self.bridge {
            self.outgoing.extend(requests.pages_done().map(Ok));
        }
        ClientEvent::Answer { body, status }
    }

    pub fn refuse_questions(&mut self) {
        if let Bridge::Requests(requests) = &mut self.bridge {
            requests.refuse();
        }
    }

    /// The client cancels the call.
    pub fn cancel(&mut self, reason: Option<String>) {
        self.abandon(reason);
        self.outgoing.push_back(Err(Fault::Cancelled));
    }

    pub fn abandon(&mut self, reason: Option<String>) {
        if let Bridge::Requests(requests) = &mut self.bridge {
            self.outgoing.extend(requests.cancel().into_iter().map(Ok));
        }
        self.outgoing.extend(self.guarded.cancel(reason).into_iter().map(Ok));
    }
}
