//! Calls that go on as tasks of the gate (2026-07-28, the extension of tasks): of a client that
//! takes them, where a legacy server asks in mid-call or is silent for long.

use crate::{
    call::{Client, clock},
    mcp::{message::Body, meta::TASKS, method::Method, raw::Raw, splice},
    park::task::{Task, TaskEnd, TaskStatus, TaskView},
    pipeline::{bridge::input_required, context::Context, fault::Fault, request::limit},
    telemetry::Counter,
};

/// The pause that a client is told to make between two looks: it costs the gate next to nothing,
/// and nobody who waited for seconds notices one more.
const POLL_INTERVAL_MS: u64 = 1_000;
const ACKNOWLEDGED: &str = r#"{"resultType":"complete"}"#;

/// Answers a request about a task, where that is the gate's own.
///
/// # Errors
/// Where the client has not declared the extension, and where the task is not there any more or
/// another's.
pub async fn own(context: &Context) -> Result<Option<Body>, Fault> {
    let call = &context.call;
    let gate = &context.gate;
    check(&call.client)?;
    let Some(name) = call.named.header() else { return Ok(None) };
    let opened = gate.lot.states.open_task(name, context.path(), &call.caller);
    let Some(opened) = opened else { return Ok(None) };
    limit::here(context).await?;
    if !opened.is_own {
        gate.counters.add(Counter::RefusedStates);
        return Err(Fault::Unknown { kind: "task", name: name.to_owned() });
    }
    let task = gate.lot.tasks.find(opened.task)?;
    context.record(|entry| entry.goes_on_with(task.record.get().copied()));
    if call.method == Method::TasksGet {
        return Ok(Some(Body::Result(detailed(&task).into())));
    }
    if call.method == Method::TasksUpdate {
        let responses = input_required::responses(&call.params);
        task.answer(|open| input_required::answer(open, &responses));
    } else {
        gate.lot.tasks.cancel(&task, context.limits());
    }
    Ok(Some(Body::Result(Raw::trusted(ACKNOWLEDGED).into())))
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

/// A `CreateTaskResult`.
pub fn created(task: &Task) -> Raw {
    let look = task.view();
    text("task", task, &look, &[])
}

/// Ends a task whose client did not answer in time: its server is told so.
pub fn overdue(context: &Context, task: &Task) -> Fault {
    task.answer(|open| {
        input_required::unanswered(open);
        Vec::new()
    });
    Fault::NoAnswer(context.limits().answer_timeout)
}

/// A `DetailedTask`, as `tasks/get` answers it.
fn detailed(task: &Task) -> Raw {
    let look = task.view();
    let more = match &look.status {
        TaskStatus::Working | TaskStatus::Ended(TaskEnd::Cancelled) => Vec::new(),
        TaskStatus::InputRequired(open) => {
            let questions =
                open.iter().map(|(key, method, params)| (key.as_str(), &**method, params.clone()));
            vec![("inputRequests", input_required::requests(questions))]
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
