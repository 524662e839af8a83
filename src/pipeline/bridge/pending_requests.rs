//! Questions that a legacy client was put in a call: until they are answered, time out, are taken
//! back, or the call is over.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    call::event::ServerRequest,
    config::Limits,
    mcp::{id::Id, message, method::Method, raw::Raw, splice},
    park::no_answer,
    pipeline::event::ClientEvent,
    session::Session,
};

/// The questions of one call. Dropped, those without an answer are forgotten: the server is
/// refused, and they take no room in the session.
#[derive(Debug, Default)]
pub struct PendingRequests {
    session: Option<Arc<Session>>,
    /// The oldest first; all have the same patience.
    open: Vec<Pending>,
}

#[derive(Debug)]
struct Pending {
    /// The server's id of it, and the one that the client knows.
    own: Id,
    shown: Id,
    method: Box<str>,
    until: Instant,
}

impl PendingRequests {
    /// Notes a question for the client of `session`: the id that it is put under. None where too
    /// many wait already, which refuses it.
    pub fn add(
        &mut self,
        session: &Arc<Session>,
        question: ServerRequest,
        limits: &Limits,
    ) -> Option<Id> {
        let shown = session.ask(question.reply, limits.questions_max)?;
        self.open.retain(|request| session.is_asked(&request.shown));
        self.session.get_or_insert_with(|| Arc::clone(session));
        self.open.push(Pending {
            own: question.id,
            shown: shown.clone(),
            method: question.method,
            until: Instant::now() + limits.answer_timeout,
        });
        Some(shown)
    }

    /// When the oldest that has no answer is to be given up.
    pub fn due(&mut self) -> Option<Instant> {
        let session = self.session.as_ref()?;
        self.open.retain(|request| session.is_asked(&request.shown));
        self.open.first().map(|request| request.until)
    }

    /// Gives up what was not answered in time: the server gets that for an answer, the client is
    /// told.
    pub fn expire(&mut self) -> Vec<ClientEvent> {
        let Some(session) = &self.session else { return Vec::new() };
        let now = Instant::now();
        let late = self.open.extract_if(.., |request| request.until <= now).filter(|request| {
            let body = no_answer(&request.method, "the client did not answer in time");
            session.answer(&request.shown, body)
        });
        late.map(|request| cancelled(&Raw::object(), &request.shown)).collect()
    }

    /// The server takes a question back: what the client is told.
    pub fn withdraw(&mut self, own: &Id, params: &Raw) -> Option<ClientEvent> {
        let at = self.open.iter().position(|request| request.own == *own)?;
        let request = self.open.remove(at);
        self.session.as_ref()?.withdraw(&request.shown).then(|| cancelled(params, &request.shown))
    }
}

impl Drop for PendingRequests {
    fn drop(&mut self) {
        let Some(session) = &self.session else { return };
        for request in &self.open {
            session.withdraw(&request.shown);
        }
    }
}

/// `notifications/cancelled` for a question, with what else the server said of it.
fn cancelled(params: &Raw, shown: &Id) -> ClientEvent {
    let edits: &[(&str, Option<&[u8]>)] = &[("requestId", Some(shown.raw().bytes()))];
    let text = message::notification(Method::Cancelled.name(), &splice::edit(params, edits));
    ClientEvent::Message(text.bytes().clone())
}
