//! A call that goes on as a task of the gate: its client is asked when it looks at the task.

use std::sync::Arc;

use tokio::time::Instant;

use super::input_required::QuestionBatch;
use crate::{
    mcp::id::Id,
    park::task::Task,
    pipeline::{context::Context, response::resend::Resend},
};

/// The task, and what its client is to be asked.
#[derive(Debug)]
pub struct GatewayTask {
    task: Arc<Task>,
    /// Questions that the server asked, and the task does not show yet.
    pub batch: QuestionBatch,
}

impl GatewayTask {
    pub fn new(task: Arc<Task>, batch: QuestionBatch) -> Self {
        Self { task, batch }
    }

    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// When the task is to show what the server asked.
    pub fn due(&self) -> Option<Instant> {
        self.batch.due()
    }

    /// Has the task show what the server asked.
    pub fn put(&mut self, context: &Context, resend: &mut Resend) {
        let (questions, _) = self.batch.take();
        if questions.is_empty() {
            return;
        }
        let patience = context.limits().answer_timeout;
        resend.allow_answer(patience);
        context.gate.lot.tasks.ask(&self.task, questions, patience);
    }

    /// Takes back what the server asked.
    pub fn withdraw(&mut self, id: &Id) {
        self.batch.withdraw(id);
        self.task.withdraw(id);
    }
}
