//! Requests of clients over HTTP, and what the gateway says by itself.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, header};

use crate::{
    call::{Token, spans::CallSpans},
    mcp::{header as value, id::Id, message, method::Method, raw::Raw, version::Era},
    net::NetError,
    upstream::exchange::error::SendError,
};

use super::{
    EVENTS, Http, LAST_EVENT_ID, METHOD, NAME, NOTIFICATION_TIMEOUT, SESSION, Sending,
    TRACE_HEADERS, VERSION,
    call::HttpCall,
    endpoint::{self, HeaderKind, How, RequestTemplate},
    head::challenge,
};

/// The headers of one request that repeat its body, or come from its client.
#[derive(Debug, Default)]
pub struct Mirrored<'a> {
    pub name: Option<&'a str>,
    pub params: &'a [(String, String)],
    /// The caller in whose name it is sent, where it is not the connection's.
    pub whose: Option<&'a Token>,
    /// The client's own headers, as far as any upstream has them.
    pub forwarded: Option<&'a HeaderMap>,
    /// The context of the trace that it is part of; it takes the place of the client's own.
    pub trace: Option<&'a TraceHeaders>,
    /// The spans of the call, where that is traced.
    pub spans: Option<&'a Arc<CallSpans>>,
    /// A server that has done it once may be asked to do it again.
    pub safe: bool,
}

/// The trace context of a request, valid as values of headers.
#[derive(Debug)]
pub struct TraceHeaders {
    pub parent: String,
    pub state: Option<String>,
    pub baggage: Option<String>,
}

impl Mirrored<'_> {
    /// Repeats in headers what the body says (2026-07-28, transports).
    fn write(&self, method: Method, request: &mut RequestTemplate) {
        request.set(METHOD, HeaderValue::from_static(method.name()));
        if let Some(text) = self.name.and_then(header_value) {
            request.set(NAME, text);
        }
        for (name, text) in self.params {
            let header = HeaderName::try_from(name).ok().zip(header_value(text));
            if let Some((name, text)) = header {
                request.set(name, text);
            }
        }
    }
}

impl TraceHeaders {
    /// Says which trace the request is part of, in place of what its client said.
    fn write(&self, request: &mut RequestTemplate) {
        request.forward_nothing_of(&TRACE_HEADERS);
        let values = [Some(&self.parent), self.state.as_ref(), self.baggage.as_ref()];
        for (name, value) in TRACE_HEADERS.into_iter().zip(values) {
            if let Some(value) = value.and_then(|text| HeaderValue::from_str(text).ok()) {
                request.set(name, value);
            }
        }
    }
}

impl Http {
    /// Begins a request; nothing is sent before the call is polled.
    pub fn request(&self, method: Method, params: &Raw, mirrored: &Mirrored<'_>) -> Box<HttpCall> {
        self.request_as(self.next_id(), method, params, mirrored)
    }

    /// An id for [`Http::request_as`], where the params must name it.
    pub fn next_id(&self) -> u64 {
        self.0.endpoint.next_id()
    }

    pub fn request_as(
        &self,
        id: u64,
        method: Method,
        params: &Raw,
        mirrored: &Mirrored<'_>,
    ) -> Box<HttpCall> {
        let text = message::request(&Id::number(id), method.name(), params);
        let mut request = self.post(text);
        // A greeting of the legacy era may reach a modern server, which demands it of every
        // request.
        if self.version().era() == Era::Modern || method == Method::Initialize {
            mirrored.write(method, &mut request);
        }
        if let Some(forwarded) = mirrored.forwarded {
            self.0.endpoint.forward(forwarded, &mut request);
        }
        if let Some(trace) = mirrored.trace {
            trace.write(&mut request);
        }
        let how = How {
            whose: mirrored.whose.cloned(),
            repeatable: mirrored.safe || is_repeatable(method),
            in_session: method == Method::Initialize || self.keeps_cookies(),
            spans: mirrored.spans.cloned(),
        };
        let sending = self.send_as(request, how);
        // Boxed: it is large, and moved from future to future.
        Box::new(HttpCall::new(self.clone(), method, id, params, sending))
    }

    /// Posts a notification or an answer and waits until it is taken.
    ///
    /// # Errors
    /// Where the server does not take it in time, or is a modern one.
    pub async fn post_notification(&self, text: Bytes) -> Result<(), SendError> {
        if self.version().era() == Era::Modern {
            return Err(SendError::Unavailable("a modern server takes requests only".to_owned()));
        }
        let request = self.post(text);
        let response = tokio::time::timeout(NOTIFICATION_TIMEOUT, self.send(request)).await;
        let Ok(response) = response else { return Err(SendError::Idle(NOTIFICATION_TIMEOUT)) };
        let response = response.map_err(|error| self.broken(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let challenge = challenge(response.headers());
        Err(self.0.endpoint.refusal(status.as_u16(), &challenge, &[]))
    }

    pub(super) fn post(&self, text: Bytes) -> RequestTemplate {
        self.template(Verb::POST, text, HeaderKind::Message)
    }

    pub(super) fn get(&self, last_event_id: Option<&str>) -> RequestTemplate {
        let mut request = self.template(Verb::GET, Bytes::new(), HeaderKind::Bare);
        request.set(header::ACCEPT, EVENTS);
        if let Some(id) = last_event_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            request.set(LAST_EVENT_ID, id);
        }
        request
    }

    pub(super) fn template(&self, verb: Verb, body: Bytes, kind: HeaderKind) -> RequestTemplate {
        let mut request = RequestTemplate::new(verb, body, kind);
        if let Some(version) = self.0.version.get() {
            request.set(VERSION, HeaderValue::from_static(version.as_str()));
        }
        if let Some(session) = self.0.session.get() {
            request.set(SESSION, session.clone());
        }
        request
    }

    /// Sets the token of the caller in whose name is sent what is in nobody else's.
    pub fn set_token(&self, token: &Token) {
        self.0.endpoint.set_token(token);
    }

    /// Sends what is the gateway's own: notifications, answers, streams and ends of sessions. All
    /// of it may be said twice.
    pub(super) fn send(&self, request: RequestTemplate) -> Sending {
        let in_session = self.keeps_cookies();
        self.send_as(request, How { whose: None, repeatable: true, in_session, spans: None })
    }

    pub(super) fn send_as(&self, request: RequestTemplate, how: How) -> Sending {
        let endpoint = Arc::clone(&self.0.endpoint);
        Box::pin(async move { endpoint.send(request, how).await })
    }

    /// Whether cookies are one session's here. What is stateless is every caller's.
    pub(super) fn keeps_cookies(&self) -> bool {
        self.0.version.get().is_none_or(|version| version.era() == Era::Legacy)
    }

    /// A broken connection may mean that the whole server is gone: it is to be probed again.
    pub(super) fn broken(&self, error: NetError) -> SendError {
        if let NetError::Connect(_) = error {
            self.end(&error.to_string());
        }
        endpoint::broken(error)
    }
}

/// Whether a request may be sent twice: all but the calls of tools, and what begins something.
fn is_repeatable(method: Method) -> bool {
    matches!(
        method,
        Method::Initialize
            | Method::Initialized
            | Method::Discover
            | Method::Ping
            | Method::ToolsList
            | Method::PromptsList
            | Method::ResourcesList
            | Method::TemplatesList
    )
}

fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(value::encode(text)).ok()
}
