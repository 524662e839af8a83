//! What a server says and asks within a call, on its way to the client.

use crate::{
    call::event::{ServerNotification, ServerRequest},
    mcp::{compat, id::Id, message, method::Method, splice},
    telemetry::Counter,
};

use super::{
    Back, Fault,
    back::{Out, Stage},
};

impl Back {
    /// A question of a legacy server; dropped, it is refused.
    pub(super) fn question(&mut self, question: ServerRequest) -> Result<Option<Out>, Fault> {
        self.shared.spoil();
        // One that must not pass is refused as one that nobody hears.
        let Ok(params) = self.heard_of(&question.params) else { return Ok(None) };
        let question = ServerRequest { params, ..question };
        let Some(session) = &self.context.call.session else {
            let added = self.asked.add(question, &self.context.call, self.context.limits());
            if let Err(fault) = &added {
                self.cancel(Some(fault.to_string()));
            }
            return added.map(|()| None);
        };
        if self.refuses {
            return Ok(None);
        }
        // One that cannot be put to this client is answered with the reason.
        let Some(question) = question.for_version(session.client.version) else { return Ok(None) };
        let params = self.of_no_task(question.params.clone());
        let method = question.method.clone();
        let Some(id) = self.puts.add(session, question, self.context.limits()) else {
            self.context.gate.counters.add(Counter::RefusedQuestions);
            return Ok(None);
        };
        self.allow_answer();
        Ok(Some(Out::Message(message::request(&id, &method, &params))))
    }

    pub(super) fn allow_answer(&mut self) {
        let patience = self.context.limits().answer_timeout;
        if let Stage::Underway(exchange) = &mut self.stage {
            exchange.allow_answer(patience);
        }
    }

    pub(super) fn notice(&mut self, notice: &ServerNotification) -> Option<Out> {
        if notice.method == Some(Method::Cancelled) {
            return self.withdrawn(notice);
        }
        self.context.snapshot.heard(self.upstream.name(), notice);
        let clean = if self.wants(notice) { self.clean_notice(notice) } else { None };
        let whole = compat::notice(self.context.call.client.version, notice.method, &clean?)?;
        self.heard(notice);
        Some(Out::Message(whole.bytes().clone()))
    }

    /// The server no longer wants an answer to what it asked.
    fn withdrawn(&mut self, notice: &ServerNotification) -> Option<Out> {
        let id = splice::member(&notice.params, "requestId").and_then(|id| Id::new(id).ok())?;
        self.asked.withdraw(&id);
        self.task.iter().for_each(|task| task.withdraw(&id));
        self.puts.withdraw(&id, &notice.params)
    }
}
