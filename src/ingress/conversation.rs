//! Decides what each decoded message of a client does, whichever transport brought it.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    call::{CallId, Caller},
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
    notice::{self, ClientNotice},
    reply::{self, Answer, Rejection, RequestHead},
};

/// A client on one route. HTTP makes one for each request, a channel one for each message.
pub struct Conversation {
    /// The route, of the snapshot that was loaded when the message came.
    pub at: RouteSnapshot,
    pub caller: Caller,
    /// The address of the client, or the one that a trusted proxy names; none of a pipe.
    pub peer: Option<IpAddr>,
    /// The request of HTTP that is answered; none of a channel, where each message is one.
    pub request: Option<CallId>,
    /// Whether the transport carries the modern era; HTTP+SSE is older.
    pub takes_modern: bool,
}

/// An action that a message asks of the transport that brought it.
#[expect(clippy::large_enum_variant, reason = "boxed, each call would allocate once more")]
pub enum MessageAction {
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
    /// Decides what a message does. `headers` are those of HTTP; `session` finds the session of a
    /// legacy client, and is asked for no other.
    pub fn message(
        &self,
        headers: Option<&HeaderMap>,
        message: Message,
        session: impl FnOnce() -> Result<Arc<Session>, Rejection>,
    ) -> MessageAction {
        match (decode::era_of(headers, &message), message) {
            (Era::Modern, Message::Request(request)) => self.modern(headers, request),
            // There is nothing that a modern client could tell this way; cancelling is closing the
            // stream. A channel has no streams: it is told there.
            (Era::Modern, Message::Notification(notification)) if headers.is_some() => {
                match decode::notified(headers, &notification) {
                    Ok(()) => MessageAction::Accept,
                    Err(rejection) => self.reject(&rejection, None),
                }
            }
            (Era::Modern, Message::Response(response)) => {
                let rejection = Rejection::Request("a modern client sends no responses".to_owned());
                self.reject(&rejection, response.id.as_ref())
            }
            (Era::Legacy, Message::Request(request)) if is(&request, Method::Initialize) => {
                MessageAction::Initialize(request)
            }
            (_, message) => match (session(), message) {
                (Ok(session), message) => self.legacy(&session, message),
                (Err(Rejection::NotOpened), message) => self.before_initialize(message),
                (Err(rejection), Message::Request(request)) => {
                    self.reject(&rejection, Some(&request.id))
                }
                (Err(rejection), Message::Notification(_) | Message::Response(_)) => {
                    self.reject(&rejection, None)
                }
            },
        }
    }

    /// Decides what a message does in an open session, where `initialize` is an unknown request.
    pub fn legacy(&self, session: &Arc<Session>, message: Message) -> MessageAction {
        match message {
            Message::Request(request) => {
                let version = session.client.version;
                match decode::legacy(Arc::clone(session), self.caller.clone(), request) {
                    Ok(call) => self.received(call),
                    Err(rejection) => {
                        let (id, fault) = *rejection;
                        // The method matters only once it has been sent.
                        let request = self.request_id();
                        let head = RequestHead { id: &id, request, method: Method::Ping, version };
                        MessageAction::Answer(self.failed(&fault, head))
                    }
                }
            }
            Message::Notification(notification) => self.notification(Some(session), &notification),
            Message::Response(Response { id, body }) => {
                let is_taken = id.as_ref().is_none_or(|id| session.answer(id, body));
                if !is_taken && id.is_some_and(|id| session.is_asked_elsewhere(&id)) {
                    let what = "the call that asked what this answers";
                    return self.reject(&Rejection::Elsewhere(what), None);
                }
                // An answer that nobody waits for any more is taken and forgotten.
                MessageAction::Accept
            }
        }
    }

    /// Checks that a batch may come in this session: they exist in 2025-03-26 only.
    ///
    /// # Errors
    /// The refusal of the whole batch.
    pub fn batch(&self, session: Result<Arc<Session>, Rejection>) -> Result<Arc<Session>, Answer> {
        let rejection = match session {
            Ok(session) if session.client.version.has_batches() => return Ok(session),
            Ok(_) | Err(Rejection::NoSession | Rejection::NotOpened) => {
                let text = "batches exist in sessions of version 2025-03-26 only";
                Rejection::Request(text.to_owned())
            }
            Err(rejection) => rejection,
        };
        Err(reply::rejected(&rejection, None, &self.at.gate.counters))
    }

    /// Opens a session, as `initialize` asks.
    ///
    /// # Errors
    /// The answer where its params are none, or a limit of the route has not enough left.
    pub async fn initialize(&self, request: &Request) -> Result<OpenedSession, Answer> {
        let failed = |fault: &Fault, version| {
            let id = &request.id;
            let method = Method::Initialize;
            let head = RequestHead { id, request: self.request_id(), method, version };
            self.failed(fault, head)
        };
        let client = pipeline::negotiate(request.params.text())
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

    fn request_id(&self) -> CallId {
        self.request.unwrap_or_else(CallId::random)
    }

    /// A call as it came on this conversation.
    fn received(&self, call: Call) -> MessageAction {
        let request = self.request.unwrap_or(call.request);
        MessageAction::Run(Call { peer: self.peer, request, ..call })
    }

    fn modern(&self, headers: Option<&HeaderMap>, request: Request) -> MessageAction {
        if !self.takes_modern {
            let text = "this transport is of the protocol before 2026-07-28";
            return self.reject(&Rejection::Request(text.to_owned()), Some(&request.id));
        }
        match decode::modern(headers, self.caller.clone(), request) {
            Ok(call) => self.received(call),
            Err(rejection) => self.reject(&rejection.1, Some(&rejection.0)),
        }
    }

    /// Decides what a message does on a channel before `initialize`.
    fn before_initialize(&self, message: Message) -> MessageAction {
        match message {
            Message::Request(request) if is(&request, Method::Ping) => {
                let text =
                    message::response(Some(&request.id), &Body::Result(Raw::object().into()));
                MessageAction::Answer(Answer::ok(text))
            }
            Message::Request(request) => self.reject(&Rejection::NotOpened, Some(&request.id)),
            Message::Notification(notification) => self.notification(None, &notification),
            Message::Response(_) => MessageAction::Accept,
        }
    }

    fn notification(
        &self,
        session: Option<&Arc<Session>>,
        notification: &Notification,
    ) -> MessageAction {
        match (notice::read(notification), session) {
            (ClientNotice::Cancelled { id, reason }, session) => {
                if session.is_some_and(|session| session.cancel(&id, reason)) {
                    MessageAction::Accept
                } else if session.is_some_and(|session| session.may_run_elsewhere(&id)) {
                    self.reject(&Rejection::Elsewhere("the call that this cancels"), None)
                } else {
                    MessageAction::Cancel(id)
                }
            }
            (ClientNotice::Forwarded(method), Some(session)) => {
                notice::forward(&self.at, session.key, method, notification.params.clone());
                MessageAction::Accept
            }
            (ClientNotice::Initialized, _) => MessageAction::Announce,
            (ClientNotice::Forwarded(_), None) | (ClientNotice::Other, _) => MessageAction::Accept,
        }
    }

    fn reject(&self, rejection: &Rejection, id: Option<&Id>) -> MessageAction {
        MessageAction::Answer(reply::rejected(rejection, id, &self.at.gate.counters))
    }
}

fn is(request: &Request, method: Method) -> bool {
    &*request.method == method.name()
}
