//! The only place that knows HTTP statuses, and the codes of what is refused before it is a call.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use serde_json::json;

use crate::{
    auth::{AuthError, RouteAuth},
    call::CallId,
    catalog::supported_versions,
    limit,
    mcp::{
        error::{self, ErrorObject},
        id::Id,
        message::{self, Body},
        method::Method,
        version::{Era, Version},
    },
    pipeline::Fault,
    telemetry::{Counter, Counters},
    upstream::SendError,
};

use super::{outgoing::budget::Exceeded, sse};

pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The request in this gate's logs and records; clients' own are not taken.
pub const REQUEST: HeaderName = HeaderName::from_static("x-request-id");
/// Proxies such as nginx hold streams back without it.
const NO_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Time that a client is to wait where the gate itself has too much to do.
const BUSY_RETRY: Duration = Duration::from_secs(1);

pub type HttpBody = UnsyncBoxBody<Bytes, Infallible>;
pub type HttpReply = Response<HttpBody>;

/// Why a message is rejected before it is a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("{0}")]
    Parse(String),
    #[error("{0}")]
    Request(String),
    /// `_meta` lacks a member that a modern request must have.
    #[error("{0}")]
    Meta(String),
    #[error("{0}")]
    Header(String),
    #[error("protocol version `{0}` is not spoken here")]
    Version(String),
    #[error("the body is larger than {0} bytes")]
    BodyTooLarge(usize),
    #[error("the body did not come within {0:?}")]
    BodyTooSlow(Duration),
    #[error("`Mcp-Session-Id` is missing: open a session with `initialize`")]
    NoSession,
    #[error("the session is not known or has ended: open a new one with `initialize`")]
    UnknownSession,
    /// What the message is about is not at this gate.
    #[error(
        "{0} is not at this gateway: another one behind the same address has it, or it was lost \
         when this one was restarted. Send this to where the call began"
    )]
    Elsewhere(&'static str),
    /// No session was opened on a channel, where no id is needed.
    #[error("nothing was agreed yet: begin with `initialize`")]
    NotOpened,
    #[error("the method `{0}` does not exist in this version of the protocol")]
    UnknownMethod(String),
    #[error("this gateway has too much to do: try again shortly")]
    Overloaded,
    /// The bodies that are being read are too large together.
    #[error(
        "the bodies of all requests that are being read are larger than `incoming_bytes_max`: try \
         again shortly"
    )]
    IncomingBytes,
    /// The answer would have to wait with too many others.
    #[error("{0}")]
    Unsent(Exceeded),
    /// The answers that wait on a channel are too large together.
    #[error(
        "the answer was dropped: too many bytes wait to be read by this client \
         (`channel_bytes_max`)"
    )]
    ChannelBytes,
}

impl Rejection {
    fn status(&self) -> StatusCode {
        match self {
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::UnknownSession | Self::UnknownMethod(_) => StatusCode::NOT_FOUND,
            Self::Overloaded | Self::IncomingBytes | Self::Unsent(_) | Self::ChannelBytes => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Parse(_)
            | Self::Request(_)
            | Self::Meta(_)
            | Self::Header(_)
            | Self::Version(_)
            | Self::NoSession
            | Self::Elsewhere(_)
            | Self::NotOpened => StatusCode::BAD_REQUEST,
        }
    }

    fn error(&self) -> ErrorObject {
        let code = match self {
            Self::Parse(_) => error::PARSE_ERROR,
            Self::Request(_)
            | Self::BodyTooLarge(_)
            | Self::BodyTooSlow(_)
            | Self::NoSession
            | Self::Elsewhere(_)
            | Self::NotOpened => error::INVALID_REQUEST,
            Self::Meta(_) => error::INVALID_PARAMS,
            Self::Header(_) => error::HEADER_MISMATCH,
            Self::Version(_) => error::UNSUPPORTED_VERSION,
            Self::UnknownSession => error::SESSION_NOT_FOUND,
            Self::UnknownMethod(_) => error::METHOD_NOT_FOUND,
            Self::Overloaded | Self::IncomingBytes | Self::Unsent(_) | Self::ChannelBytes => {
                error::INTERNAL_ERROR
            }
        };
        let object = ErrorObject::new(code, self.to_string());
        let Self::Version(asked) = self else { return object };
        object.with(&json!({ "supported": supported_versions(), "requested": asked }))
    }
}

/// The response to a request, with what HTTP says beside it.
pub struct Answer {
    /// The status where the response comes alone, and not in a stream.
    pub status: StatusCode,
    /// The response, whole.
    pub text: Bytes,
    /// Time after which the same request may fare better.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// A response without anything to say beside it.
    pub fn ok(text: Bytes) -> Self {
        Self { status: StatusCode::OK, text, retry_after: None }
    }

    /// The answer as a reply of HTTP.
    pub fn into_reply(self) -> HttpReply {
        let mut reply = json_reply(self.status, self.text);
        if let Some(wait) = self.retry_after {
            let seconds = HeaderValue::from(limit::seconds(wait));
            reply.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        reply
    }
}

/// An answer that came as JSON as a stream of this one event, for a client that accepts no JSON.
/// What failed as HTTP stays what it is.
pub async fn streamed(reply: HttpReply) -> HttpReply {
    let kind = reply.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if reply.status() != StatusCode::OK || !is_json {
        return reply;
    }
    let session = reply.headers().get(SESSION).cloned();
    let Ok(whole) = reply.into_body().collect().await;
    let event = sse::event(None, &whole.to_bytes());
    let mut streamed = event_reply(futures_util::stream::iter([event]));
    streamed.headers_mut().extend(session.map(|id| (SESSION, id)));
    streamed
}

/// The request that an answer is for.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    pub id: &'a Id,
    /// The request in this gate's logs.
    pub request: CallId,
    pub method: Method,
    /// The version that its client speaks.
    pub version: Version,
}

/// The answer to a message that is rejected, with the id of the request where that could be read.
/// It is counted.
pub fn rejected(rejection: &Rejection, id: Option<&Id>, counters: &Counters) -> Answer {
    match rejection {
        Rejection::BodyTooLarge(_) => counters.add(Counter::RefusedBodyBytes),
        Rejection::BodyTooSlow(_) => counters.add(Counter::RefusedSlow),
        Rejection::Header(_) | Rejection::Meta(_) | Rejection::Version(_) => {
            counters.add(Counter::RefusedHeaders);
        }
        Rejection::NoSession | Rejection::UnknownSession | Rejection::NotOpened => {
            counters.add(Counter::RefusedSession);
        }
        Rejection::Overloaded => counters.add(Counter::RefusedRequests),
        Rejection::IncomingBytes => counters.add(Counter::RefusedIncoming),
        Rejection::ChannelBytes => counters.add(Counter::RefusedChannelBytes),
        // A body that is no message was counted when it was read, and the budget counts what it
        // refuses.
        Rejection::Parse(_)
        | Rejection::Request(_)
        | Rejection::UnknownMethod(_)
        | Rejection::Elsewhere(_)
        | Rejection::Unsent(_) => (),
    }
    let status = rejection.status();
    Answer {
        status,
        text: message::response(id, &Body::Error(rejection.error().raw())),
        retry_after: (status == StatusCode::SERVICE_UNAVAILABLE).then_some(BUSY_RETRY),
    }
}

/// The reply to a request whose caller the route does not know: what is wrong, and how a client
/// logs in (RFC 6750 §3, RFC 9728 §5.1, RFC 9470 §3).
pub fn unrecognised(error: &AuthError, id: Option<&Id>, auth: &RouteAuth) -> HttpReply {
    let (status, word) = match error {
        AuthError::Missing => (StatusCode::UNAUTHORIZED, None),
        AuthError::Malformed(_) => (StatusCode::BAD_REQUEST, Some("invalid_request")),
        AuthError::Invalid(_) | AuthError::Expired(_) => {
            (StatusCode::UNAUTHORIZED, Some("invalid_token"))
        }
        AuthError::Scope(_) => (StatusCode::FORBIDDEN, Some("insufficient_scope")),
        AuthError::StepUp(_) => {
            (StatusCode::UNAUTHORIZED, Some("insufficient_user_authentication"))
        }
        AuthError::Limited(_) => (StatusCode::TOO_MANY_REQUESTS, None),
        AuthError::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, None),
    };
    let object = ErrorObject::new(error::INVALID_REQUEST, error.to_string());
    let mut reply = json_reply(status, message::response(id, &Body::Error(object.raw())));
    let wait = match error {
        AuthError::Unavailable => Some(10),
        AuthError::Limited(wait) => Some(limit::seconds(*wait)),
        AuthError::Missing
        | AuthError::Malformed(_)
        | AuthError::Invalid(_)
        | AuthError::Expired(_)
        | AuthError::Scope(_)
        | AuthError::StepUp(_) => None,
    };
    if let Some(seconds) = wait {
        reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        return reply;
    }
    // Scopes of the configuration may have characters that no header takes.
    if let Ok(value) = HeaderValue::try_from(challenge(error, word, auth)) {
        reply.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    reply
}

/// The challenge that says how a client can log in.
fn challenge(error: &AuthError, word: Option<&str>, auth: &RouteAuth) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, value: &str| parts.push(format!("{name}=\"{value}\""));
    if let Some(word) = word {
        part("error", word);
        part("error_description", &error.to_string().replace('"', "'"));
    }
    if let AuthError::StepUp(demanded) = error {
        if !demanded.acr.is_empty() {
            part("acr_values", &demanded.acr.join(" "));
        }
        demanded.max_age.iter().for_each(|age| part("max_age", &age.as_secs().to_string()));
    }
    auth.scope().iter().for_each(|scope| part("scope", scope));
    auth.metadata_url().iter().for_each(|url| part("resource_metadata", url));
    format!("Bearer {}", parts.join(", ")).trim_end().to_owned()
}

/// The answer to a call that failed. It is counted.
pub fn fault(fault: &Fault, request: RequestHead<'_>, counters: &Counters) -> Answer {
    counters.fault(fault.reason());
    let RequestHead { id, request, method, version } = request;
    let status = match fault {
        Fault::UnknownMethod(_) if version.era() == Era::Modern => StatusCode::NOT_FOUND,
        Fault::Header(_) | Fault::DuplicateId | Fault::State(_) | Fault::MissingCapability(_) => {
            StatusCode::BAD_REQUEST
        }
        // A tool's failure is a result, and a legacy client takes any other status for a broken
        // connection.
        Fault::Limited(_) if version.era() == Era::Modern && method != Method::ToolsCall => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Fault::Upstream { error: SendError::Refused(_) | SendError::Busy(..), .. }
            if version.era() == Era::Modern && method != Method::ToolsCall =>
        {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Fault::Unrecorded | Fault::Unlisted(_)
            if version.era() == Era::Modern && method != Method::ToolsCall =>
        {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Fault::UnknownMethod(_)
        | Fault::Unrecorded
        | Fault::UnrecordedAnswer
        | Fault::Unlisted(_)
        | Fault::Unknown { .. }
        | Fault::Invalid(_)
        | Fault::Answered(_)
        | Fault::Cancelled
        | Fault::Unbridgeable(_)
        | Fault::Denied
        | Fault::StepUp(_)
        | Fault::Limit(_)
        | Fault::Internal(_)
        | Fault::Limited(_)
        | Fault::Guard(_)
        | Fault::NoAnswer(_)
        | Fault::Declined
        | Fault::Task(_)
        | Fault::TaskCancelled
        | Fault::Upstream { .. } => StatusCode::OK,
    };
    let text = message::response(Some(id), &fault.body(method, version, request));
    Answer { status, text, retry_after: fault.retry_after() }
}

/// The status of an upstream's answer. For a modern client the status says what kind of error it
/// is: the upstream's own status, or where that says nothing, one by the code (2026-07-28,
/// transports). The statuses of authentication are between the gate and that upstream.
pub fn status(upstream: u16, body: &Body, era: Era) -> StatusCode {
    let Body::Error(object) = body else { return StatusCode::OK };
    if era == Era::Legacy {
        return StatusCode::OK;
    }
    if (400..600).contains(&upstream) && ![401, 403, 407].contains(&upstream) {
        return StatusCode::from_u16(upstream).unwrap_or(StatusCode::OK);
    }
    match error::code_of(object) {
        error::METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
        error::PARSE_ERROR | error::INVALID_REQUEST => StatusCode::BAD_REQUEST,
        code if error::is_modern(code) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

pub fn json_reply(status: StatusCode, text: Bytes) -> HttpReply {
    let mut reply = Response::new(UnsyncBoxBody::new(Full::new(text)));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// Says in a reply which request it is to.
pub fn identify(reply: &mut HttpReply, request: CallId) {
    // Digits are a header's value.
    if let Ok(id) = HeaderValue::try_from(request.to_string()) {
        reply.headers_mut().insert(REQUEST, id);
    }
}

/// A stream of events, flushed one by one.
pub fn event_reply(events: impl Stream<Item = Bytes> + Send + 'static) -> HttpReply {
    let frames = events.map(|event| Ok::<_, Infallible>(Frame::data(event)));
    let mut reply = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(NO_BUFFERING.0, NO_BUFFERING.1);
    reply
}

pub fn empty(status: StatusCode) -> HttpReply {
    let mut reply = Response::new(UnsyncBoxBody::new(Full::default()));
    *reply.status_mut() = status;
    reply
}

/// A reply in words, for people with a browser or curl.
pub fn plain(status: StatusCode, text: impl Into<Bytes>) -> HttpReply {
    let mut reply = Response::new(UnsyncBoxBody::new(Full::new(text.into())));
    *reply.status_mut() = status;
    reply
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    reply
}

pub fn not_allowed(allow: &'static str) -> HttpReply {
    let mut reply = plain(StatusCode::METHOD_NOT_ALLOWED, format!("allowed here: {allow}\n"));
    reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    reply
}

#[cfg(test)]
mod tests {
    use crate::mcp::raw::Raw;

    use super::*;

    #[test]
    fn an_answers_status_is_its_own_or_that_of_its_code() {
        let error = |code| Body::Error(ErrorObject::new(code, "no").raw());
        for (said, code, wanted) in [
            (200, -32601, 404),
            (200, -32022, 400),
            (200, -32020, 400),
            (200, -32600, 400),
            (200, -32602, 200),
            (200, -1, 200),
            (400, -32602, 400),
            (503, -32603, 503),
            (401, -32603, 200),
            (403, -32601, 404),
            (407, -32700, 400),
            (304, -32603, 200),
        ] {
            assert_eq!(status(said, &error(code), Era::Modern), wanted, "{said} {code}");
            assert_eq!(status(said, &error(code), Era::Legacy), StatusCode::OK);
        }
        assert_eq!(status(500, &Body::Result(Raw::object().into()), Era::Modern), StatusCode::OK);
    }
}
