//! Tasks that servers give in place of results, brought to their end for clients that know of none:
//! a legacy server's for anyone, by its own request for the result; a modern server's for a legacy
//! client, by looking at it again and again.

use std::mem;

use crate::{
    call::event::Event,
    mcp::{
        index::{ResultKind, ResultMember},
        message::Body,
        method::Method,
        raw::Raw,
        result::ResultBody,
        splice,
        version::Era,
    },
    pipeline::{
        bridge::rounds::Round, context::Context, event::ClientEvent, fault::Fault,
        response::coalesce::Coalescing,
    },
    telemetry::Counter,
    upstream::TaskRef,
};

use super::poll::{Polled, Polling};

/// Yields what the server says; in place of a task that the client cannot know, what becomes of it.
#[derive(Debug)]
pub struct ServerTask {
    pub coalescing: Coalescing,
    state: State,
    /// Messages to the client about questions of a task that is over.
    withdrawn: Vec<ClientEvent>,
}

#[derive(Debug)]
enum State {
    /// The server has given no task.
    None,
    /// A legacy server gave one, whose result is to be asked for.
    Following(TaskRef),
    /// A modern server gave one, which is looked at.
    Polling(Box<Polling>),
    /// A modern server's task has ended, and with it the call.
    Over,
}

impl ServerTask {
    pub fn new(coalescing: Coalescing) -> Self {
        Self { coalescing, state: State::None, withdrawn: Vec::new() }
    }

    /// Yields the next event of the call. Safe to drop.
    ///
    /// # Errors
    /// Where the server fails, or gives a task that cannot be read.
    pub async fn next(&mut self, context: &Context) -> Result<Event, Fault> {
        loop {
            let event = match &mut self.state {
                State::None | State::Over => {
                    let event = self.coalescing.next(context).await?;
                    self.unless_taken(context, event)?
                }
                State::Following(task) => {
                    // Boxed, as the next one: rare, and large.
                    let tasks = &context.gate.tasks;
                    Box::pin(self.coalescing.resend.follow(context, task, tasks)).await?;
                    self.state = State::None;
                    None
                }
                State::Polling(polling) => {
                    let polled = Box::pin(polling.step()).await;
                    self.polled(polled)?
                }
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// The event, unless it is a task that the gate brings to its end.
    fn unless_taken(&mut self, context: &Context, event: Event) -> Result<Option<Event>, Fault> {
        if let Event::Answer { body: Body::Result(result), .. } = &event
            && self.takes(context, result)?
        {
            return Ok(None);
        }
        Ok(Some(event))
    }

    /// Whether a result is a task that the gate brings to its end, which begins then.
    fn takes(&mut self, context: &Context, result: &ResultBody) -> Result<bool, Fault> {
        let resend = &mut self.coalescing.resend;
        let request = &resend.request;
        if request.wishes_task {
            note_task(context, result);
        }
        if resend.era == Era::Legacy {
            let may = request.as_task && resend.is_underway();
            let Some(task) = may.then(|| TaskRef::of(result)).flatten() else { return Ok(false) };
            context.gate.counters.add(Counter::TasksCarried);
            self.state = State::Following(task);
            return Ok(true);
        }
        if context.client().era() == Era::Modern || !is_task(result) {
            return Ok(false);
        }
        context.gate.counters.add(Counter::TasksCarried);
        let Some(sent) = resend.note_sent() else {
            return Err(context.bug("a task of a call that was not sent"));
        };
        let call = resend.next_request(context);
        let clearance = resend.clearance().clone();
        let total_at = resend.total_at();
        let tasks = context.gate.tasks.clone();
        let polling = Polling::begin(result, call, clearance, sent, total_at, tasks)?
            .knowing_at_most(context.limits().questions_bytes_max);
        // The answer has come: what is left of the exchange goes, and its places stay with `sent`.
        self.state = State::Polling(Box::new(polling));
        resend.cancel(None);
        Ok(true)
    }

    /// Handles what a look at a task brought: what its server asks comes as an answer that requires
    /// input, as a call itself would have it.
    fn polled(&mut self, polled: Result<Polled, Fault>) -> Result<Option<Event>, Fault> {
        match polled {
            Ok(Polled::Nothing) => Ok(None),
            Ok(Polled::Ask(result)) => {
                let kind: [(&str, Option<&[u8]>); 1] =
                    [("resultType", Some(b"\"input_required\""))];
                let body = Body::Result(splice::edit(&result, &kind).into());
                Ok(Some(Event::Answer { body, status: 200 }))
            }
            Ok(Polled::End(body)) => {
                self.end();
                Ok(Some(Event::Answer { body, status: 200 }))
            }
            Err(fault) => {
                self.end();
                Err(fault)
            }
        }
    }

    /// Ends a task: nobody needs an answer to its questions any more.
    fn end(&mut self) {
        if let State::Polling(polling) = mem::replace(&mut self.state, State::Over) {
            self.withdrawn = polling.withdrawn();
        }
    }

    /// Takes what the client is to be told before anything else.
    pub fn take_withdrawn(&mut self) -> Vec<ClientEvent> {
        mem::take(&mut self.withdrawn)
    }

    /// Whether the answer is that of a modern server's task: the end, whatever it says.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Has the task's server get what the client answers in this round. The round is given back
    /// where no task is under way.
    pub fn ask(&mut self, round: Round) -> Option<Round> {
        match &mut self.state {
            State::Polling(polling) => {
                polling.ask(round);
                None
            }
            State::None | State::Following(_) | State::Over => Some(round),
        }
    }

    /// Ends the call; what a client is told of questions that nobody needs an answer to any more.
    pub fn cancel(&mut self, reason: Option<String>) -> Vec<ClientEvent> {
        let state = mem::replace(&mut self.state, State::Over);
        self.coalescing.cancel(reason);
        match state {
            State::Polling(polling) => polling.withdrawn(),
            State::None | State::Following(_) | State::Over => Vec::new(),
        }
    }

    /// Whether something may come of itself: from the server, or from a call that is waited for.
    pub fn is_listening(&self) -> bool {
        matches!(self.state, State::None | State::Over) && self.coalescing.is_listening()
    }
}

/// Notes that the session was given a task at its own wish.
fn note_task(context: &Context, result: &Raw) {
    let id = splice::at(result, &["task", "taskId"]).and_then(|id| id.try_read());
    if let (Some(session), Some(id)) = (&context.call.session, id) {
        session.note_task(id);
    }
}

/// Names a modern server's task anew for its client: by an id of its own. What the client is told
/// of the task later, it knows by the id that it asks with.
pub fn rename(context: &Context, coalescing: &Coalescing, body: Body) -> Body {
    let resend = &coalescing.resend;
    let modern = context.client().era() == Era::Modern && resend.era == Era::Modern;
    let may = modern && matches!(context.call.method, Method::ToolsCall | Method::TasksGet);
    let Body::Result(result) = &body else { return body };
    // The id is read only where there can be one.
    let id = if may { result.member(ResultMember::TaskId) } else { None };
    let Some(own) = id.and_then(|id| id.try_read::<String>()) else { return body };
    let shown = match context.call.named.header() {
        Some(asked) if context.call.method == Method::TasksGet => asked.to_owned(),
        _ if !is_task(result) => return body,
        _ => {
            let states = &context.gate.lot.states;
            states.seal_upstream_task(&resend.place(), &own, context.path(), context.caller())
        }
    };
    let shown = Raw::encode(&shown);
    Body::Result(splice::edit(result, &[("taskId", Some(shown.bytes()))]).into())
}

/// Whether a modern server's result is a task.
fn is_task(result: &ResultBody) -> bool {
    match result.kind() {
        ResultKind::Task => true,
        ResultKind::None | ResultKind::Complete | ResultKind::InputRequired => false,
        // It may be written with escapes.
        ResultKind::Other => {
            let kind = result.member(ResultMember::ResultType);
            kind.and_then(|kind| kind.try_read::<String>()).is_some_and(|kind| kind == "task")
        }
    }
}
