//! Tasks that servers give in place of results, brought to their end for clients that know of none:
//! a modern server's for a legacy client (`polling`), a legacy server's for anyone
//! (`upstream::exchange`).

use crate::{
    call::UpstreamRequest,
    mcp::{message::Body, meta::RELATED_TASK, method::Method, raw::Raw, splice, version::Era},
    telemetry::Counter,
    upstream::TaskRef,
};

use super::{
    Back, Fault, Out,
    back::Stage,
    clean::After,
    polling::{Polled, Polling},
};

impl Back {
    /// The server gave a task in place of a result, for the gate to bring to its end.
    pub(super) fn begin_polling(&mut self, result: &Raw) -> Result<Option<Out>, Fault> {
        self.context.gate.counters.add(Counter::TasksCarried);
        let call =
            UpstreamRequest { replica: self.replica, ..self.resolved.ask(&self.context.call) };
        self.note_sent();
        let Some(sent) = self.sent.clone() else {
            return Err(self.context.bug("a task of a call that was not sent"));
        };
        let clearance = self.tries.clearance.clone();
        let tasks = self.context.gate.tasks.clone();
        let polling = Polling::begin(result, call, clearance, sent, self.since, tasks)?;
        self.stage = Stage::Polling(Box::new(polling));
        Ok(None)
    }

    pub(super) fn polled(&mut self, polled: Result<Polled, Fault>) -> Result<Option<Out>, Fault> {
        match polled {
            Ok(Polled::Nothing) => Ok(None),
            Ok(Polled::Ask(result)) => {
                let round = self.round(&self.heard_of(&result)?)?;
                if let Stage::Polling(polling) = &mut self.stage {
                    polling.ask(round);
                }
                Ok(None)
            }
            Ok(Polled::End(body)) => {
                self.cancel(None);
                match self.cleaned(body, After::Task) {
                    Ok(Some(body)) => {
                        let end = self.end(body, 200);
                        self.ready.push_back(Ok(end));
                    }
                    Ok(None) => (),
                    Err(fault) => self.ready.push_back(Err(fault)),
                }
                Ok(None)
            }
            Err(fault) => {
                self.cancel(None);
                self.ready.push_back(Err(fault));
                Ok(None)
            }
        }
    }

    /// The task that a legacy server gave for a call that it takes only so.
    pub(super) fn task_given(&self, body: &Body) -> Option<TaskRef> {
        let Body::Result(result) = body else { return None };
        let may = self.resolved.as_task && self.era == Era::Legacy;
        if may { TaskRef::of(result) } else { None }
    }

    /// The session is given a task at its own wish.
    pub(super) fn note_task(&self, body: &Body) {
        let (Body::Result(result), Some(session)) = (body, &self.context.call.session) else {
            return;
        };
        if !self.resolved.wishes_task {
            return;
        }
        let id = splice::at(result, &["task", "taskId"]);
        if let Some(id) = id.and_then(|id| id.try_read()) {
            session.note_task(id);
        }
    }

    /// The task's result comes as the call's own.
    pub(super) fn followed(&mut self) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        self.stage = match stage {
            Stage::Following(exchange, _) => Stage::Underway(exchange),
            other @ (Stage::Again(_)
            | Stage::Underway(_)
            | Stage::Polling(_)
            | Stage::Asking(_)
            | Stage::Waiting(_)
            | Stage::Checking(_)
            | Stage::Over) => other,
        };
    }

    /// A modern server's task has an id of its own for each client; what it is told of later, it
    /// knows by the id that it asks with.
    pub(super) fn name_task(&self, body: Body) -> Body {
        let modern = self.context.call.client.era() == Era::Modern && self.era == Era::Modern;
        let may =
            modern && matches!(self.context.call.method, Method::ToolsCall | Method::TasksGet);
        let Body::Result(result) = &body else { return body };
        // Read only where there can be one.
        let id = if may { splice::rare_member(result, "taskId") } else { None };
        let Some(own) = id.and_then(|id| id.try_read::<String>()) else { return body };
        let shown = match self.context.call.named.header() {
            Some(asked) if self.context.call.method == Method::TasksGet => asked.to_owned(),
            _ if !is_task(result) => return body,
            _ => {
                let (path, caller) = (self.context.path(), self.context.caller());
                self.context.gate.lot.states.seal_upstream_task(&self.place(), &own, path, caller)
            }
        };
        let shown = Raw::encode(&shown);
        Body::Result(splice::edit(result, &[("taskId", Some(shown.bytes()))]))
    }

    /// A client that knows of no task is told of none.
    pub(super) fn of_no_task(&self, object: Raw) -> Raw {
        if !self.resolved.as_task || !object.is_object() {
            return object;
        }
        splice::edit_within(&object, "_meta", &[(RELATED_TASK, None)])
    }
}

fn is_task(result: &Raw) -> bool {
    splice::member(result, "resultType").is_some_and(|kind| kind.as_str() == "\"task\"")
}
