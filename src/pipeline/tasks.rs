//! Calls that go on as tasks of the gate (2026-07-28, the extension of tasks): of a client that
//! takes them, where a legacy server asks in mid-call or is silent for long.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    call::{Client, clock, event::ServerNotification},
    mcp::{message::Body, meta::TASKS, method::Method, raw::Raw, splice, version::Era},
    park::task::{Task, TaskEnd, TaskSignal, TaskStatus, TaskView},
    telemetry::Counter,
};

use super::{Back, Context, Fault, Out, Reply, admit, asked, back::Stage, resume};

/// What a client is told to wait between two looks: it costs the gate next to nothing, and nobody
/// who waited for seconds notices one more.
const POLL_INTERVAL_MS: u64 = 1_000;
const ACKNOWLEDGED: &str = r#"{"resultType":"complete"}"#;

/// Answers a request about a task, where that is the gate's own.
///
/// # Errors
/// Where the client has not declared the extension, and where the task is not there any more or
/// another's.
pub async fn own(context: &Context) -> Result<Option<Reply>, Fault> {
    let call = &context.call;
    let gate = &context.gate;
    check(&call.client)?;
    let Some(name) = call.named.header() else { return Ok(None) };
    let opened = gate.lot.states.open_task(name, context.path(), &call.caller);
    let Some((owner, id, is_own)) = opened else { return Ok(None) };
    admit::here(context).await?;
    if !is_own {
        gate.counters.add(Counter::RefusedStates);
        return Err(Fault::Unknown { kind: "task", name: name.to_owned() });
    }
    let task = gate.lot.tasks.find(owner, id)?;
    context.record(|entry| entry.goes_on_with(task.record.get().copied()));
    if call.method == Method::TasksGet {
        return Ok(Some(Reply::Answer(Body::Result(detailed(&task)))));
    }
    if call.method == Method::TasksUpdate {
        let responses = resume::responses(&call.params);
        task.answer(|open| asked::answer(open, &responses));
    } else {
        gate.lot.tasks.cancel(&task, context.limits());
    }
    Ok(Some(Reply::Answer(Body::Result(Raw::trusted(ACKNOWLEDGED)))))
}

/// Whether the client has declared the extension.
///
/// # Errors
/// Where it has not.
pub fn check(client: &Client) -> Result<(), Fault> {
    if client.takes_tasks() {
        return Ok(());
    }
    let required = format!(r#"{{"extensions":{{"{TASKS}":{{}}}}}}"#);
    Err(Fault::MissingCapability(Raw::trusted(required)))
}

/// When a call that begins now is to go on as a task, if nothing is heard of it; none where it
/// never is: a modern server has tasks of its own.
pub fn due(context: &Context, era: Era) -> Option<Instant> {
    let call = &context.call;
    let may = era == Era::Legacy && call.method == Method::ToolsCall && call.client.takes_tasks();
    may.then(|| Instant::now() + context.limits().task_after)
}

/// A `CreateTaskResult`.
fn created(task: &Task) -> Raw {
    let look = task.view();
    text("task", task, &look, &[])
}

/// Brings a call to its end, whatever its client does meanwhile. Dropped, the call is cancelled.
async fn drive(mut back: Box<Back>, task: Arc<Task>) {
    let context = Arc::clone(back.context());
    let body = loop {
        let out = tokio::select! {
            // Both keep what they have when dropped.
            out = back.next() => out,
            signal = task.signal() => match signal {
                TaskSignal::Cancelled => return back.abandon("the task was cancelled"),
                TaskSignal::Answered(away) => {
                    back.postpone(away);
                    continue;
                }
                TaskSignal::Overdue => {
                    task.answer(|open| {
                        asked::unanswered(open);
                        Vec::new()
                    });
                    back.abandon("the client did not answer in time");
                    let fault = Fault::NoAnswer(context.limits().answer_timeout);
                    back.failed(&fault);
                    Err(fault)
                }
            },
        };
        match out {
            // Neither progress nor logs exist for tasks.
            Ok(Out::Message(_) | Out::Paused(_)) => (),
            Ok(Out::Answer { body, .. }) => break body,
            Err(fault) => {
                context.gate.counters.fault(fault.reason());
                break fault.body(Method::ToolsCall, back.call().client.version);
            }
        }
    };
    context.gate.lot.tasks.end(&task, body, context.limits());
}

impl Back {
    /// The client is to be asked, or was left waiting for long enough.
    pub(super) fn due(&mut self) -> Result<Option<Out>, Fault> {
        let late = self.puts.expire();
        if !late.is_empty() {
            self.ready.extend(late.into_iter().map(Ok));
            return Ok(None);
        }
        if let Some(task) = self.task.clone() {
            self.put_to_task(&task);
            return Ok(None);
        }
        let takes = self.task_at.take().is_some();
        if let Some(created) = if takes { self.become_task() } else { None } {
            return Ok(Some(created));
        }
        // There is no room for tasks.
        if self.asked.due().is_some() { self.park().map(Some) } else { Ok(None) }
    }

    fn put_to_task(&mut self, task: &Task) {
        let (questions, _) = self.asked.take();
        if !questions.is_empty() {
            self.allow_answer();
            let patience = self.context.limits().answer_timeout;
            self.context.gate.lot.tasks.ask(task, questions, patience);
        }
    }

    /// From now on the call goes on by itself, and its client comes back for it.
    fn become_task(&mut self) -> Option<Out> {
        let context = &self.context;
        let lot = &context.gate.lot;
        let caller = context.caller();
        let name = |owner, id| lot.states.seal_task(owner, id, context.path(), caller);
        let total = self.tries.timeout.total;
        let task = lot.tasks.open(name, caller, total, context.limits())?;
        if let Some(id) = context.record_id() {
            task.record.get_or_init(|| id);
        }
        let mut own = Self {
            context: Arc::clone(context),
            // What is recorded is how the task ends.
            entry: self.entry.take(),
            resolved: self.resolved.clone(),
            upstream: Arc::clone(&self.upstream),
            replica: self.replica,
            trial: self.trial.take(),
            shadow: self.shadow.take(),
            stage: std::mem::replace(&mut self.stage, Stage::Over),
            sent: self.sent.take(),
            tries: Arc::clone(&self.tries),
            era: self.era,
            underway: None,
            refuses: self.refuses,
            fresh: false,
            ready: VecDeque::new(),
            asked: std::mem::take(&mut self.asked),
            puts: std::mem::take(&mut self.puts),
            rounds: self.rounds,
            pages: Vec::new(),
            since: self.since,
            task_at: None,
            task: Some(Arc::clone(&task)),
            shared: std::mem::take(&mut self.shared),
            outdated: self.outdated.take(),
        };
        own.put_to_task(&task);
        let body = Body::Result(created(&task));
        let driving = drive(Box::new(own), task);
        self.context.gate.tasks.spawn("task: drive", driving);
        Some(Out::Answer { body, status: 200 })
    }

    /// Who hears of progress is not left waiting, and for tasks there is none.
    pub(super) fn heard(&mut self, notice: &ServerNotification) {
        if notice.method == Some(Method::Progress)
            && self.context.call.streams
            && self.task_at.is_some()
        {
            self.task_at = Some(Instant::now() + self.context.limits().task_after);
        }
    }

    /// Cancels it, and says why to a server that is told.
    fn abandon(&mut self, reason: &str) {
        self.cancel(Some(reason.to_owned()));
    }

    /// The client took so long to answer, which is not to be the server's fault.
    fn postpone(&mut self, away: Duration) {
        if let Stage::Underway(exchange) = &mut self.stage {
            exchange.postpone(away);
        }
    }
}

/// A `DetailedTask`, as `tasks/get` answers it.
fn detailed(task: &Task) -> Raw {
    let look = task.view();
    let more = match &look.status {
        TaskStatus::Working | TaskStatus::Ended(TaskEnd::Cancelled) => Vec::new(),
        TaskStatus::InputRequired(open) => {
            let questions =
                open.iter().map(|(key, method, params)| (key.as_str(), &**method, params.clone()));
            vec![("inputRequests", asked::requests(questions))]
        }
        TaskStatus::Ended(TaskEnd::Completed(result)) => vec![("result", result.clone())],
        TaskStatus::Ended(TaskEnd::Failed(error)) => {
            let says =
                splice::at(error, &["message"]).filter(|says| says.as_str().starts_with('"'));
            let says = says.map(|says| ("statusMessage", says));
            says.into_iter().chain([("error", error.clone())]).collect()
        }
    };
    text("complete", task, &look, &more)
}

fn text(kind: &str, task: &Task, look: &TaskView, more: &[(&str, Raw)]) -> Raw {
    let status = match look.status {
        TaskStatus::Working => "working",
        TaskStatus::InputRequired(_) => "input_required",
        TaskStatus::Ended(TaskEnd::Completed(_)) => "completed",
        TaskStatus::Ended(TaskEnd::Failed(_)) => "failed",
        TaskStatus::Ended(TaskEnd::Cancelled) => "cancelled",
    };
    let text = serde_json::json!({
        "resultType": kind,
        "taskId": task.name,
        "status": status,
        "createdAt": clock::rfc3339(look.created),
        "lastUpdatedAt": clock::rfc3339(look.updated),
        "ttlMs": u64::try_from(look.ttl.as_millis()).unwrap_or(u64::MAX),
        "pollIntervalMs": POLL_INTERVAL_MS,
    });
    let edits: Vec<_> = more.iter().map(|(key, value)| (*key, Some(&value.bytes()[..]))).collect();
    splice::edit(&Raw::encode(&text), &edits)
}
