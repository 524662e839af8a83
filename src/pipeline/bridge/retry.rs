//! A modern client is asked by an answer that requires input: the call is parked until its retry,
//! or goes on as a task of the gate where the client takes tasks.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    Bridged,
    gateway_task::GatewayTask,
    input_required::{self, QuestionBatch},
};
use crate::{
    mcp::{message::Body, meta::TASKS, method::Method, splice, version::Era},
    park::Parked,
    pipeline::{context::Context, event::ClientEvent, fault::Fault, response::resend::Resend},
};

/// Questions that a modern client is to be asked.
#[derive(Debug)]
pub struct InputRequired {
    /// Questions that the server asked so far.
    pub batch: QuestionBatch,
    /// When the call is to go on as a task of the gate; none where it is not.
    task_at: Option<Instant>,
}

impl InputRequired {
    /// Makes the bridge of a call that is sent to a server.
    pub fn new(context: &Context, resend: &Resend) -> Self {
        let call = &context.call;
        let may = call.method == Method::ToolsCall
            && call.client.takes_tasks()
            && !has_tasks_of_its_own(resend);
        let task_at = may.then(|| Instant::now() + context.limits().task_after);
        Self { batch: QuestionBatch::default(), task_at }
    }

    /// Goes on with a call that was parked, and was asked so many questions before.
    pub fn unparked(context: &Context, resend: &Resend, asked: u32) -> Self {
        Self { batch: QuestionBatch::after(asked), ..Self::new(context, resend) }
    }

    /// Whether the call is to go on as a task from its very beginning: `task_after` is 0.
    pub fn is_task_at_once(&self, context: &Context) -> bool {
        self.task_at.is_some() && context.limits().task_after.is_zero()
    }

    /// Keeps the call from becoming a task: nobody would come back for it.
    pub fn without_task(&mut self) {
        self.task_at = None;
    }

    /// When the client is to be asked, or has waited for long enough.
    pub fn due(&self) -> Option<Instant> {
        self.batch.due().into_iter().chain(self.task_at).min()
    }

    /// Puts off that the call becomes a task: who hears of progress is not left waiting, and for
    /// tasks there is none.
    pub fn on_progress(&mut self, context: &Context) {
        if context.call.streams && self.task_at.is_some() {
            self.task_at = Some(Instant::now() + context.limits().task_after);
        }
    }

    /// Makes the call a task of the gate; none where it is not to be one, or there is no room.
    pub fn open_task(&mut self, context: &Context, resend: &mut Resend) -> Option<GatewayTask> {
        self.task_at.take()?;
        let lot = &context.gate.lot;
        let caller = context.caller();
        let name = |id| lot.states.seal_task(id, context.path(), caller);
        let task = lot.tasks.open(name, caller, resend.total(), context.limits())?;
        if let Some(id) = context.record_id() {
            task.record.get_or_init(|| id);
        }
        resend.forbid_repeats();
        let mut task = GatewayTask::new(task, std::mem::take(&mut self.batch));
        task.put(context, resend);
        Some(task)
    }

    /// Parks the call, if there is something to ask: it waits for the client's retry.
    ///
    /// # Errors
    /// Where there is no room for one more.
    pub fn park(&mut self, context: &Context, resend: &mut Resend) -> Result<Bridged, Fault> {
        if self.batch.due().is_none() {
            return Ok(Bridged::Nothing);
        }
        let Some(mut exchange) = resend.take_exchange() else {
            return Err(context.bug("only a call under way can be parked"));
        };
        // The client's retry is let in like any other request.
        exchange.release();
        let (open, count) = self.batch.take();
        let upstream = Arc::clone(&resend.upstream);
        let own_name = resend.request.target.own.clone();
        let parked = Parked::new(exchange, upstream, own_name, open, count);
        let result = input_required::park(context, parked)?;
        let body = Body::Result(result.into());
        Ok(Bridged::Event(ClientEvent::Answer { body, status: 200 }))
    }
}

/// Whether the server makes tasks itself, of whatever takes long (2026-07-28, extension of tasks).
fn has_tasks_of_its_own(resend: &Resend) -> bool {
    let peer = resend.upstream.peer().filter(|_| resend.era == Era::Modern);
    let extensions = peer.and_then(|peer| splice::member(&peer.capabilities, "extensions"));
    extensions.is_some_and(|all| all.is_object() && splice::member(&all, TASKS).is_some())
}
