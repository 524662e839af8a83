//! Calls that go on as tasks (2026-07-28, the extension of tasks): what their clients may ask about
//! them, and for how long.
//!
//! A task's driver reads the call to its end and writes here; its client looks here.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    call::{CallId, Caller, clock, event::ServerRequest},
    config::Limits,
    mcp::{
        error::{ErrorObject, INTERNAL_ERROR},
        id::Id,
        message::Body,
        raw::Raw,
    },
    telemetry::{Counter, Counters},
};

use super::{OpenQuestions, expiry::expiring, no_answer, state::TaskId, table::DeadlineTable};

/// All tasks of a gate, ended ones included.
#[derive(Debug)]
pub struct GatewayTasks {
    /// The number of this very process, as in the ids.
    owner: u64,
    table: Mutex<TaskTable>,
    changed: Notify,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct TaskTable {
    tasks: DeadlineTable<Arc<Task>>,
    /// Bytes of all results.
    bytes: usize,
}

/// A task.
#[derive(Debug)]
pub struct Task {
    id: u128,
    /// The id as its client knows it.
    pub name: String,
    /// The record of the call that goes on as this.
    pub record: OnceLock<CallId>,
    created_at: Instant,
    created: u64,
    /// The longest that it may go on without being asked anything, and be kept after that.
    lifetime: Duration,
    state: Mutex<State>,
    signal: Notify,
}

#[derive(Debug)]
struct State {
    deadline: Instant,
    updated: u64,
    end: Option<TaskEnd>,
    /// Questions without an answer, by keys that are never used twice.
    open: Vec<(String, ServerRequest)>,
    asked_at: Instant,
    answer_by: Instant,
    /// All was answered after so long; the driver has not heard of it yet.
    answered: Option<Duration>,
}

/// How a task ended.
#[derive(Debug, Clone)]
pub enum TaskEnd {
    Completed(Raw),
    Failed(Raw),
    Cancelled,
}

/// A task for one moment.
#[derive(Debug)]
pub struct TaskView {
    pub status: TaskStatus,
    /// Seconds since 1970.
    pub created: u64,
    pub updated: u64,
    /// How long it is kept, counted from its creation.
    pub ttl: Duration,
}

#[derive(Debug)]
pub enum TaskStatus {
    Working,
    /// The requests by key: a method and its params.
    InputRequired(Vec<(String, Box<str>, Raw)>),
    Ended(TaskEnd),
}

/// Event that a driver must know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskSignal {
    Cancelled,
    /// Nobody answered in time.
    Overdue,
    /// All was answered, after so long.
    Answered(Duration),
}

/// Why an id of the gate's own leads to no task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    #[error("the task has expired: its `ttlMs` is over, and its result is no longer kept")]
    Expired,
    #[error(
        "the task is not at this gateway: another one behind the same address runs it, or it was \
         lost when this one was restarted. Ask where the tool was called; what the tool did so far \
         is not known here"
    )]
    Elsewhere,
}

impl GatewayTasks {
    pub fn new(owner: u64, counters: Arc<Counters>) -> Self {
        Self { owner, table: Mutex::default(), changed: Notify::new(), counters }
    }

    /// Opens a task; `name` seals its id for its client, `total` is the longest that its call may
    /// take. None where there is no room.
    pub fn open(
        &self,
        name: impl FnOnce(TaskId) -> String,
        caller: &Caller,
        total: Duration,
        limits: &Limits,
    ) -> Option<Arc<Task>> {
        let mut kept = self.table.lock();
        if kept.tasks.room(caller, limits.tasks_max, limits.tasks_per_caller_max).is_err() {
            drop(kept);
            self.counters.add(Counter::RefusedTasks);
            return None;
        }
        let id = TaskId { owner: self.owner, number: rand::random() };
        let task = Arc::new(Task::new(id.number, name(id), total + limits.task_ttl));
        let until = task.state.lock().deadline;
        kept.tasks.insert(id.number, caller, until, Arc::clone(&task));
        drop(kept);
        self.counters.add(Counter::Tasks);
        self.changed.notify_one();
        Some(task)
    }

    /// Finds a task.
    ///
    /// # Errors
    /// Fails where another gateway process made it, or where it is no longer kept.
    pub fn find(&self, id: TaskId) -> Result<Arc<Task>, TaskError> {
        if id.owner != self.owner {
            return Err(TaskError::Elsewhere);
        }
        // An id stands for a task that was there once.
        self.table.lock().tasks.get(id.number).map(Arc::clone).ok_or(TaskError::Expired)
    }

    /// Puts questions to the client, who has `patience`.
    pub fn ask(&self, task: &Task, questions: Vec<(String, ServerRequest)>, patience: Duration) {
        let until = task.ask(questions, patience);
        self.set_deadline(task, until);
    }

    /// The call's last word; nothing where the task has ended before.
    pub fn end(&self, task: &Task, body: Body, limits: &Limits) {
        let mut end = match body {
            Body::Result(result) => TaskEnd::Completed(result.into()),
            Body::Error(error) => TaskEnd::Failed(error),
        };
        let mut kept = self.table.lock();
        if kept.tasks.get(task.id).is_none() {
            return;
        }
        if limits.task_bytes_max < kept.bytes + end.bytes() {
            let text = "the result is larger than what is left for results (`task_bytes_max`)";
            end = TaskEnd::Failed(ErrorObject::new(INTERNAL_ERROR, text).raw());
            self.counters.add(Counter::TaskResultsDropped);
        }
        let bytes = end.bytes();
        if let Some(until) = task.end(end, limits.task_ttl, "the call is over") {
            kept.bytes += bytes;
            kept.tasks.set_deadline(task.id, until);
            self.changed.notify_one();
        }
    }

    /// Ends it at its client's wish; nothing where it has ended before.
    pub fn cancel(&self, task: &Task, limits: &Limits) {
        if let Some(until) = task.end(TaskEnd::Cancelled, limits.task_ttl, "the task was cancelled")
        {
            self.set_deadline(task, until);
        }
    }

    pub fn count(&self) -> usize {
        self.table.lock().tasks.len()
    }

    /// Forgets what was kept long enough, for as long as the gate runs.
    pub async fn expire(&self) {
        let first = || self.table.lock().tasks.next_deadline();
        expiring(&self.changed, first, |id| self.expired(id)).await;
    }

    /// The gate is going.
    pub fn clear(&self) {
        let kept = std::mem::take(&mut *self.table.lock());
        for task in kept.tasks.into_values() {
            task.end(TaskEnd::Cancelled, Duration::ZERO, "the gateway is stopping");
        }
    }

    fn expired(&self, id: u128) {
        let mut kept = self.table.lock();
        let Some(task) = kept.tasks.remove(id) else { return };
        kept.bytes -= task.state.lock().end.as_ref().map_or(0, TaskEnd::bytes);
        drop(kept);
        self.counters.add(Counter::TasksExpired);
        // A task that still goes on has outstayed every deadline of its call.
        task.end(TaskEnd::Cancelled, Duration::ZERO, "the task has expired");
    }

    fn set_deadline(&self, task: &Task, until: Instant) {
        self.table.lock().tasks.set_deadline(task.id, until);
        self.changed.notify_one();
    }
}

impl Task {
    fn new(id: u128, name: String, span: Duration) -> Self {
        let since = Instant::now();
        let created = clock::unix_seconds();
        let state = State {
            deadline: since + span,
            updated: created,
            end: None,
            open: Vec::new(),
            asked_at: since,
            answer_by: since,
            answered: None,
        };
        Self {
            id,
            name,
            record: OnceLock::new(),
            created_at: since,
            created,
            lifetime: span,
            state: Mutex::new(state),
            signal: Notify::new(),
        }
    }

    pub fn view(&self) -> TaskView {
        let state = self.state.lock();
        let status = match &state.end {
            Some(end) => TaskStatus::Ended(end.clone()),
            None if state.open.is_empty() => TaskStatus::Working,
            None => TaskStatus::InputRequired(
                state.open.iter().map(|(key, question)| shown(key, question)).collect(),
            ),
        };
        let ttl = state.deadline.saturating_duration_since(self.created_at);
        TaskView { status, created: self.created, updated: state.updated, ttl }
    }

    /// Gives `answer` the open questions; what it returns stays open.
    pub fn answer(
        &self,
        answer: impl FnOnce(Vec<(String, ServerRequest)>) -> Vec<(String, ServerRequest)>,
    ) {
        let mut state = self.state.lock();
        let before = state.open.len();
        state.open = answer(std::mem::take(&mut state.open));
        if state.open.len() < before {
            self.on_fewer_questions(&mut state);
        }
    }

    /// Returns what its client was asked and has not answered.
    pub fn open_questions(&self) -> OpenQuestions {
        OpenQuestions::of(&self.state.lock().open)
    }

    /// The server no longer wants an answer to what it asked by this id.
    pub fn withdraw(&self, id: &Id) {
        let mut state = self.state.lock();
        let before = state.open.len();
        state.open.retain(|(_, question)| question.id != *id);
        if state.open.len() < before {
            self.on_fewer_questions(&mut state);
        }
    }

    /// Waits for what the driver must know of. Safe to drop.
    pub async fn signal(&self) -> TaskSignal {
        loop {
            let told = self.signal.notified();
            let due = match self.state.lock().signal() {
                Ok(signal) => return signal,
                Err(due) => due,
            };
            match due {
                None => told.await,
                Some(due) => tokio::select! {
                    // Both hold nothing: the state is looked at again.
                    () = told => (),
                    () = tokio::time::sleep_until(due) => (),
                },
            }
        }
    }

    fn ask(&self, questions: Vec<(String, ServerRequest)>, patience: Duration) -> Instant {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.end.is_some() {
            close(questions, "the task is over");
            return state.deadline;
        }
        if state.open.is_empty() {
            state.asked_at = now;
        }
        state.answer_by = now + patience;
        state.deadline = state.deadline.max(state.answer_by + self.lifetime);
        state.updated = clock::unix_seconds();
        state.open.extend(questions);
        self.signal.notify_one();
        state.deadline
    }

    /// Ends it, and returns until when it is kept; none where it had ended before.
    fn end(&self, end: TaskEnd, kept: Duration, reason: &str) -> Option<Instant> {
        let mut state = self.state.lock();
        if state.end.is_some() {
            return None;
        }
        state.end = Some(end);
        state.deadline = Instant::now() + kept;
        state.updated = clock::unix_seconds();
        close(std::mem::take(&mut state.open), reason);
        self.signal.notify_one();
        Some(state.deadline)
    }

    fn on_fewer_questions(&self, state: &mut State) {
        state.updated = clock::unix_seconds();
        if state.open.is_empty() {
            state.answered = Some(state.asked_at.elapsed());
            self.signal.notify_one();
        }
    }
}

impl State {
    /// The next event for the driver, else when there may be one.
    fn signal(&mut self) -> Result<TaskSignal, Option<Instant>> {
        if let Some(TaskEnd::Cancelled) = self.end {
            return Ok(TaskSignal::Cancelled);
        }
        if let Some(away) = self.answered.take() {
            return Ok(TaskSignal::Answered(away));
        }
        let due = (!self.open.is_empty()).then_some(self.answer_by);
        if due.is_some_and(|due| due <= Instant::now()) {
            Ok(TaskSignal::Overdue)
        } else {
            Err(due)
        }
    }
}

impl TaskEnd {
    fn bytes(&self) -> usize {
        match self {
            Self::Completed(text) | Self::Failed(text) => text.bytes().len(),
            Self::Cancelled => 0,
        }
    }
}

fn shown(key: &str, question: &ServerRequest) -> (String, Box<str>, Raw) {
    (key.to_owned(), question.method.clone(), question.params.clone())
}

/// Nobody will answer any more.
fn close(questions: Vec<(String, ServerRequest)>, reason: &str) {
    for (_, question) in questions {
        // The server may have gone as well.
        question.reply.send(no_answer(&question.method, reason)).ok();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const TOTAL: Duration = Duration::from_secs(60);

    fn limits() -> Limits {
        let task_ttl = Duration::from_millis(10);
        Limits { task_bytes_max: 10, tasks_max: 2, task_ttl, ..Limits::default() }
    }

    fn open(board: &GatewayTasks) -> Option<Arc<Task>> {
        board.open(|id| id.number.to_string(), &Caller::Parent, TOTAL, &limits())
    }

    fn result(text: &'static str) -> Body {
        Body::Result(Raw::trusted(text).into())
    }

    async fn emptied(board: &GatewayTasks) {
        while board.count() != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_result_is_kept_for_its_time_and_frees_its_room() {
        let board = GatewayTasks::new(7, Arc::default());
        let task = open(&board).unwrap();
        let found = |owner| board.find(TaskId { owner, number: task.id });
        board.end(&task, result("12345678"), &limits());
        assert!(matches!(found(7).unwrap().view().status, TaskStatus::Ended(_)));
        assert_eq!(found(8).unwrap_err(), TaskError::Elsewhere);
        let second = open(&board).unwrap();
        assert!(open(&board).is_none(), "two at most");
        board.end(&second, result("12345678"), &limits());
        assert!(
            matches!(second.view().status, TaskStatus::Ended(TaskEnd::Failed(_))),
            "no room for it"
        );
        tokio::select! {
            () = board.expire() => (),
            () = emptied(&board) => (),
        }
        assert_eq!(found(7).unwrap_err(), TaskError::Expired);
        assert_eq!((board.count(), board.table.lock().bytes), (0, 0));
        let third = open(&board).unwrap();
        board.end(&third, result("12345678"), &limits());
        assert!(matches!(third.view().status, TaskStatus::Ended(TaskEnd::Completed(_))));
    }

    #[tokio::test]
    async fn a_driver_hears_of_answers_of_their_absence_and_of_the_end() {
        let board = GatewayTasks::new(7, Arc::default());
        let task = open(&board).unwrap();
        let ask = |patience| {
            let (reply, answer) = oneshot::channel();
            let (id, method) = (Id::number(1), "elicitation/create".into());
            let question = ServerRequest { id, method, params: Raw::object(), reply };
            board.ask(&task, vec![("q1".to_owned(), question)], patience);
            answer
        };
        let _answer = ask(TOTAL);
        assert!(matches!(task.view().status, TaskStatus::InputRequired(open) if open.len() == 1));
        task.answer(|_| Vec::new());
        assert!(matches!(task.signal().await, TaskSignal::Answered(_)));
        let _answer = ask(Duration::ZERO);
        assert_eq!(task.signal().await, TaskSignal::Overdue);
        let answer = ask(TOTAL);
        board.cancel(&task, &limits());
        assert_eq!(task.signal().await, TaskSignal::Cancelled);
        assert!(matches!(answer.await, Ok(Body::Result(_))), "the server is told");
        board.end(&task, result("1"), &limits());
        assert!(
            matches!(task.view().status, TaskStatus::Ended(TaskEnd::Cancelled)),
            "once and for all"
        );
    }
}
