//! Responses that go on by themselves: as a task of the gate, or to refresh what is kept.

use std::sync::Arc;

use super::{
    chain::{ResponseChain, ResponseStep},
    coalesce::{Coalescing, Lead},
    observe::Observe,
    resend::Resend,
};
use crate::{
    mcp::method::Method,
    park::task::{Task, TaskSignal},
    pipeline::{
        bridge::Bridge, context::Context, event::ClientEvent, request::resolve::Resolved,
        tasks::gateway,
    },
    upstream::Clearance,
};

impl ResponseChain {
    /// Brings a call to its end as a task, whatever its client does meanwhile. Dropped, the call is
    /// cancelled.
    pub async fn run_to_end(mut self: Box<Self>, context: Arc<Context>, task: Arc<Task>) {
        let body = loop {
            let step = tokio::select! {
                // Both keep what they have when dropped.
                step = self.next(&context) => step,
                signal = task.signal() => match signal {
                    TaskSignal::Cancelled => {
                        return self.abandon(Some("the task was cancelled".to_owned()));
                    }
                    // The client took its time, which is not to be the server's fault.
                    TaskSignal::Answered(away) => {
                        self.guarded.resend_mut().postpone(away);
                        continue;
                    }
                    TaskSignal::Overdue => {
                        let fault = gateway::overdue(&context, &task);
                        self.abandon(Some("the client did not answer in time".to_owned()));
                        self.observe.failed(&fault);
                        Err(fault)
                    }
                },
            };
            match step {
                // Neither progress nor logs exist for tasks.
                Ok(
                    ResponseStep::Event(ClientEvent::Message(_) | ClientEvent::Paused(_))
                    | ResponseStep::Task(_),
                ) => {}
                Ok(ResponseStep::Event(ClientEvent::Answer { body, .. })) => break body,
                Err(fault) => {
                    context.gate.counters.fault(fault.reason());
                    break fault.body(
                        Method::ToolsCall,
                        context.client().version,
                        context.call.request,
                    );
                }
            }
        };
        context.gate.lot.tasks.end(&task, body, context.limits());
    }
}

/// Asks anew in the background, with what the call was let in by. It is no call of its own, and
/// leaves no record.
pub fn refresh(context: &Arc<Context>, mut request: Resolved, clearance: Clearance, lead: Lead) {
    let mut asked = Arc::clone(context);
    Arc::make_mut(&mut asked).entry = None;
    request.guard = request.guard.recorded_in(None);
    let mut resend = Resend::stable(&asked, request, clearance);
    // A failure is logged as that of any call sent again.
    resend.send_again(resend.next_request(&asked));
    let coalescing = Coalescing::leading(resend, lead, None);
    let mut response = ResponseChain::of(&asked, coalescing, Observe::default());
    response.refuse_questions();
    if let Bridge::InputRequired(retry) = &mut response.bridge {
        retry.without_task();
    }
    context.gate.tasks.spawn("cache: refresh", async move {
        while let Ok(ResponseStep::Event(ClientEvent::Message(_) | ClientEvent::Paused(_))) =
            response.next(&asked).await
        {}
    });
}
