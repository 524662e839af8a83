//! Questions that a legacy client was put in a call: until they are answered, time out, are taken
//! back, or the call is over.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    call::event::ServerRequest,
    config::Limits,
    mcp::{id::Id, message, method::Method, raw::Raw, splice},
    park::no_answer,
    session::Session,
};

use super::Out;

/// The questions of one call. Dropped, those without an answer are forgotten: the server is
/// refused, and they take no room in the session.
#[derive(Debug, Default)]
pub struct Puts {
    session: Option<Arc<Session>>,
    /// The oldest first; all have the same patience.
    open: Vec<Put>,
}

#[derive(Debug)]
struct Put {
    /// The server's id of it, and the one that the client knows.
    own: Id,
    shown: Id,
    method: Box<str>,
    until: Instant,
}

impl Puts {
    /// Notes a question for the client of `session`: the id that it is put under. None where too
    /// many wait already, which refuses it.
    pub fn add(
        &mut self,
        session: &Arc<Session>,
        question: ServerRequest,
        limits: &Limits,
    ) -> Option<Id> {
        let shown = session.ask(question.reply, limits.questions_max)?;
        self.open.retain(|put| session.is_asked(&put.shown));
        self.session.get_or_insert_with(|| Arc::clone(session));
        self.open.push(Put {
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
        self.open.retain(|put| session.is_asked(&put.shown));
        self.open.first().map(|put| put.until)
    }

    /// Gives up what was not answered in time: the server gets that for an answer, the client is
    /// told.
    pub fn expire(&mut self) -> Vec<Out> {
        let Some(session) = &self.session else { return Vec::new() };
        let now = Instant::now();
        let late = self.open.extract_if(.., |put| put.until <= now).filter(|put| {
            let body = no_answer(&put.method, "the client did not answer in time");
            session.answer(&put.shown, body)
        });
        late.map(|put| cancelled(&Raw::object(), &put.shown)).collect()
    }

    /// The server takes a question back: what the client is told.
    pub fn withdraw(&mut self, own: &Id, params: &Raw) -> Option<Out> {
        let at = self.open.iter().position(|put| put.own == *own)?;
        let put = self.open.remove(at);
        self.session.as_ref()?.withdraw(&put.shown).then(|| cancelled(params, &put.shown))
    }
}

impl Drop for Puts {
    fn drop(&mut self) {
        let Some(session) = &self.session else { return };
        for put in &self.open {
            session.withdraw(&put.shown);
        }
    }
}

/// `notifications/cancelled` for a question, with what else the server said of it.
fn cancelled(params: &Raw, shown: &Id) -> Out {
    let edits: &[(&str, Option<&[u8]>)] = &[("requestId", Some(shown.raw().bytes()))];
    let text = message::notification(Method::Cancelled.name(), &splice::edit(params, edits));
    Out::Message(text.bytes().clone())
}
