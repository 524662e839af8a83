//! What comes back from an upstream while a call is under way.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::mcp::{id::Id, message::Body, method::Method, raw::Raw};

/// One thing that happens on a call's way back.
#[derive(Debug)]
pub enum Event {
    /// The end: the result or the error, and the HTTP status it came with.
    Answer { body: Body, status: u16 },
    /// A notification of this call: progress, a log message.
    Notice(Notice),
    /// The server asks the client (legacy): sampling, elicitation, roots.
    Question(Question),
    /// The upstream closed its stream and will go on when it is asked again (SEP-1699).
    Paused { retry: Duration },
}

/// A notification as it came.
#[derive(Debug, Clone)]
pub struct Notice {
    /// None for one that the table does not know.
    pub method: Option<Method>,
    pub params: Raw,
    pub whole: Raw,
}

/// A request from the server; dropped unanswered, the server gets a refusal.
#[derive(Debug)]
pub struct Question {
    /// The server's own id of it.
    pub id: Id,
    pub method: Box<str>,
    pub params: Raw,
    pub reply: oneshot::Sender<Body>,
}
