//! What each decoded message of a client does, whichever transport brought it.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    call::Caller,
    mcp::{
        id::Id,
        message::{self, Body, Message, Notification, Request, Response},
        method::Method,
        raw::Raw,
        version::{Era, Version},
    },
    pipeline::{self, Call, Fault},
    session::Session,
    snapshot::RouteSnapshot,
};

use super::{
    decode,
    notice::{self, Notice},
    reply::{self, Answer, Refused, RequestHead},
};

/// One client on one route. HTTP makes one for each request, a channel one for each message.
pub struct Conversation {
    /// The route, of the snapshot that was loaded when the message came.
    pub at: RouteSnapshot,
    pub caller: Caller,
    /// The address of the client, or the one that a trusted proxy names; none of a pipe.
    pub peer: Option<IpAddr>,
    /// Whether the transport carries the modern era; HTTP+SSE is older.
    pub takes_modern: bool,
}

/// What a message asks of the transport that brought it.
#[expect(clippy::large_enum_variant, reason = "boxed, each call would allocate once more")]
pub enum Action {
    /// Runs a call and sends what comes of it.
    Run(Call),
    /// Opens a session with [`Conversation::initialize`].
    Initialize(Request),
    /// Sends this at once.
    Answer(Answer),
    /// Cancels a call that belongs to no session; HTTP has none that could be cancelled this way.
    Cancel(Id),
    /// Sends announcements from now on, where they waited for a client that was not ready.
    Announce,
    /// Sends nothing: the message is dealt with.
    Accept,
}

/// A session just opened.
pub struct OpenedSession {
    pub session: Arc<Session>,
    /// Its sealed id, as HTTP sends it.
    pub id: String,
    /// The response to `initialize`.
    pub text: Bytes,
}

impl Conversation {
    /// What a message does. `headers` are those of HTTP; `session` finds the session of a legacy
    /// client, and is asked for no other.
    pub fn message(
        &self,
        headers: Option<&HeaderMap>,
        message: Message,
        session: impl FnOnce() -> Result<Arc<Session>, Refused>,
    ) -> Action {
        match (decode::era_of(headers, &message), message) {
            (Era::Modern, Message::Request(request)) => self.modern(headers, request),
            // There is nothing that a modern client could tell this way; cancelling is closing the
            // stream. A channel has no streams: it is told there.
            (Era::Modern, Message::Notification(notification)) if headers.is_some() => {
                match decode::notified(headers, &notification) {
                    Ok(()) => Action::Accept,
                    Err(refused) => self.refuse(&refused, None),
                }
            }
            (Era::Modern, Message::Response(response)) => {
                let refused = Refused::Request("a modern client sends no responses".to_owned());
                self.refuse(&refused, response.id.as_ref())
            }
            (Era::Legacy, Message::Request(request)) if is(&request, Method::Initialize) => {
                Action::Initialize(request)
            }
            (_, message) => match (session(), message) {
                (Ok(session), message) => self.legacy(&session, message),
                (Err(Refused::NotOpened), message) => self.before_initialize(message),
                (Err(refused), Message::Request(request)) => {
                    self.refuse(&refused, Some(&request.id))
                }
                (Err(refused), Message::Notification(_) | Message::Response(_)) => {
                    self.refuse(&refused, None)
                }
            },
        }
    }

    /// What a message does in a session that is open. `initialize` is an unknown request there.
    pub fn legacy(&self, session: &Arc<Session>, message: Message) -> Action {
        match message {
            Message::Request(request) => {
                let version = session.client.version;
                match decode::legacy(Arc::clone(session), self.caller.clone(), request) {
                    Ok(call) => Action::Run(Call { peer: self.peer, ..call }),
                    Err(refused) => {
                        let (id, fault) = *refused;
                        // Which method it is matters only once it has been sent.
                        let head = RequestHead { id: &id, method: Method::Ping, version };
                        Action::Answer(self.failed(&fault, head))
                    }
                }
            }
            Message::Notification(notification) => self.notification(Some(session), &notification),
            Message::Response(Response { id, body }) => {
                if let Some(id) = &id {
                    // One that nobody waits for any more is taken and forgotten.
                    session.answer(id, body);
                }
                Action::Accept
            }
        }
    }

    /// Checks that a batch may come in this session: they exist in 2025-03-26 only.
    ///
    /// # Errors
    /// The refusal of the whole batch.
    pub fn batch(&self, session: Result<Arc<Session>, Refused>) -> Result<Arc<Session>, Answer> {
        let refused = match session {
            Ok(session) if session.client.version.has_batches() => return Ok(session),
            Ok(_) | Err(Refused::NoSession | Refused::NotOpened) => {
                let text = "batches exist in sessions of version 2025-03-26 only";
                Refused::Request(text.to_owned())
            }
            Err(refused) => refused,
        };
        Err(reply::refused(&refused, None, &self.at.gate.counters))
    }

    /// Opens a session, as `initialize` asks.
    ///
    /// # Errors
    /// The answer where its params are none, or a limit of the route has not enough left.
    pub async fn initialize(&self, request: &Request) -> Result<OpenedSession, Answer> {
        let failed = |fault: &Fault, version| {
            let head = RequestHead { id: &request.id, method: Method::Initialize, version };
            self.failed(fault, head)
        };
        let client = pipeline::negotiate(&request.params)
            .map_err(|fault| failed(&fault, Version::LEGACY_LATEST))?;
        let version = client.version;
        let opened = pipeline::initialize(self.at.clone(), &self.caller, client).await;
        let (session, id, body) = opened.map_err(|fault| failed(&fault, version))?;
        Ok(OpenedSession { session, id, text: message::response(Some(&request.id), &body) })
    }

    /// The answer to a call that failed. It is counted.
    pub fn failed(&self, fault: &Fault, request: RequestHead<'_>) -> Answer {
        reply::fault(fault, request, &self.at.gate.counters)
    }

    fn modern(&self, headers: Option<&HeaderMap>, request: Request) -> Action {
        if !self.takes_modern {
            let text = "this transport is of the protocol before 2026-07-28";
            return self.refuse(&Refused::Request(text.to_owned()), Some(&request.id));
        }
        match decode::modern(headers, self.caller.clone(), request) {
            Ok(call) => Action::Run(Call { peer: self.peer, ..call }),
            Err(refused) => self.refuse(&refused.1, Some(&refused.0)),
        }
    }

    /// What a message does on a channel where nothing was agreed yet.
    fn before_initialize(&self, message: Message) -> Action {
        match message {
            Message::Request(request) if is(&request, Method::Ping) => {
                let text = message::response(Some(&request.id), &Body::Result(Raw::object()));
                Action::Answer(Answer::ok(text))
            }
            Message::Request(request) => self.refuse(&Refused::NotOpened, Some(&request.id)),
            Message::Notification(notification) => self.notification(None, &notification),
            Message::Response(_) => Action::Accept,
        }
    }

    fn notification(&self, session: Option<&Arc<Session>>, notification: &Notification) -> Action {
        match (notice::read(notification), session) {
            (Notice::Cancelled { id, reason }, session) => {
                let is_known = session.is_some_and(|session| session.cancel(&id, reason));
                if is_known { Action::Accept } else { Action::Cancel(id) }
            }
            (Notice::PassedOn(method), Some(session)) => {
                notice::pass_on(&self.at, session.key, method, notification.params.clone());
                Action::Accept
            }
            (Notice::Initialized, _) => Action::Announce,
            (Notice::PassedOn(_), None) | (Notice::Other, _) => Action::Accept,
        }
    }

    fn refuse(&self, refused: &Refused, id: Option<&Id>) -> Action {
        Action::Answer(reply::refused(refused, id, &self.at.gate.counters))
    }
}

fn is(request: &Request, method: Method) -> bool {
    &*request.method == method.name()
}
