//! Everything that can end a call without an answer of the upstream's own.

use std::time::Duration;

use serde_json::json;

use crate::{
    call::CallId,
    config::StepUp,
    guard,
    limit::{self, LimitRefusal},
    mcp::{
        compat,
        error::{self, ErrorObject},
        message::Body,
        method::Method,
        raw::Raw,
        splice,
        version::{Era, Version},
    },
    park::{StateError, task::TaskError},
    telemetry::Reason,
    upstream::{CLOSING, SendError},
};

/// The reason why a call fails, one variant a cause; [`Fault::body`] is what it is answered with,
/// `ingress::reply` has the status.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Fault {
    #[error("the method `{0}` does not exist in this version of the protocol")]
    UnknownMethod(Box<str>),
    #[error("{0}")]
    Invalid(String),
    /// A header and the body differ (2026-07-28).
    #[error("{0}")]
    Header(String),
    #[error("unknown {kind}: {name}")]
    Unknown { kind: &'static str, name: String },
    /// No list has it, and one that could have it cannot be read now.
    #[error("{}", unlisted(.0))]
    Unlisted(&'static str),
    /// The caller may see the thing, but not use it so.
    #[error("{DENIED}")]
    Denied,
    /// The caller may see the thing, and use it so after another login.
    #[error("{DENIED}")]
    StepUp(Box<StepUp>),
    #[error("a request with this id is under way already")]
    DuplicateId,
    #[error("cancelled")]
    Cancelled,
    /// The upstream wants something that this client's version of the protocol has no words for.
    #[error("the server behind this needs a newer client: {0}")]
    Unbridgeable(String),
    #[error("upstream: {error}")]
    Upstream { method: Method, error: SendError },
    /// A bound of the gate itself.
    #[error("{0}")]
    Limit(String),
    /// The call could not be recorded, and nothing goes unrecorded.
    #[error("{UNRECORDED}")]
    Unrecorded,
    /// The call was answered, which could not be recorded: the answer is not given.
    #[error("{UNRECORDED_ANSWER}")]
    UnrecordedAnswer,
    /// A limit that the configuration sets.
    #[error("{0}")]
    Limited(LimitRefusal),
    /// Its arguments, or its result, are not clean.
    #[error("{0}")]
    Guard(guard::GuardRefusal),
    /// A state that came with a retry leads nowhere (2026-07-28).
    #[error("{0}")]
    State(#[from] StateError),
    /// The server asks what this client has not declared: the least that it would have to.
    #[error("the server behind this asks the client for something that it has not declared: {0:?}")]
    MissingCapability(Raw),
    /// A client answered what it was asked with an error, and nothing else is to be said: that one.
    #[error("the client answered with an error: {0:?}")]
    Answered(Raw),
    #[error("what the server asked was not answered within {0:?} (`answer_timeout`)")]
    NoAnswer(Duration),
    /// The client declined what had to be done first.
    #[error("what the server wants done first was declined")]
    Declined,
    /// An id of a task of the gate leads nowhere any more (2026-07-28, the extension of tasks).
    #[error("{0}")]
    Task(#[from] TaskError),
    /// The server gave a task in place of a result, and ended it so.
    #[error("the server behind this cancelled what it was doing")]
    TaskCancelled,
    /// The gateway itself is at fault: a state that cannot be.
    #[error("{INTERNAL}")]
    Internal(&'static str),
}

impl Fault {
    /// When the same request may fare better, where that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        if let Self::Limited(refusal) = self {
            return refusal.retry_after();
        }
        let Self::Upstream { error, .. } = self else { return None };
        error.retry_after()
    }

    /// The word that metrics and audit have for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::UnknownMethod(_) | Self::Invalid(_) | Self::Header(_) | Self::DuplicateId => {
                Reason::InvalidRequest
            }
            Self::Unknown { .. } => Reason::NotFound,
            Self::Denied | Self::StepUp(_) => Reason::AccessDenied,
            Self::Limited(_) => Reason::RateLimited,
            Self::Guard(refusal) => match refusal {
                guard::GuardRefusal::Arguments(_)
                | guard::GuardRefusal::ArgumentBytes(..)
                | guard::GuardRefusal::ArgumentWork(..)
                | guard::GuardRefusal::ArgumentMemory(..)
                | guard::GuardRefusal::Unchecked => Reason::InvalidArguments,
                guard::GuardRefusal::Result(_) => Reason::UpstreamError,
                guard::GuardRefusal::Late => Reason::ServiceUnavailable,
                guard::GuardRefusal::ResultBytes(..)
                | guard::GuardRefusal::ResultWork(..)
                | guard::GuardRefusal::ResultMemory(..)
                | guard::GuardRefusal::ResultLate => Reason::ResponseTooLarge,
                guard::GuardRefusal::Blocked(..) => Reason::Blocked,
            },
            Self::Limit(_) => Reason::Overloaded,
            Self::Unrecorded | Self::UnrecordedAnswer | Self::Unlisted(_) => {
                Reason::ServiceUnavailable
            }
            Self::Cancelled => Reason::Cancelled,
            Self::Unbridgeable(_) => Reason::Unbridgeable,
            Self::MissingCapability(_) => Reason::MissingCapability,
            Self::State(_) | Self::Task(_) => Reason::StaleState,
            Self::NoAnswer(_) => Reason::NoAnswer,
            Self::Declined => Reason::Declined,
            Self::Answered(_) => Reason::ClientError,
            Self::TaskCancelled => Reason::UpstreamError,
            Self::Internal(_) => Reason::InternalError,
            Self::Upstream { error, .. } => match error {
                SendError::Idle(_) | SendError::Total(_) | SendError::NoRoom => {
                    Reason::ServiceTimeout
                }
                SendError::Unavailable(_)
                | SendError::Unready(_)
                | SendError::Refused(_)
                | SendError::Busy(..)
                | SendError::Status(429 | 502..=504, _)
                | SendError::SessionGone
                | SendError::Lost(_) => Reason::ServiceUnavailable,
                SendError::Limited(_) => Reason::RateLimited,
                SendError::TooLarge(_) => Reason::ResponseTooLarge,
                SendError::Garbage(_) | SendError::Status(..) | SendError::Redirected(_) => {
                    Reason::UpstreamError
                }
            },
        }
    }

    /// The answer to a request that failed so, for a client of this version: an error, or for a
    /// tool what a model can read, with the id by which operators find the request.
    pub fn body(&self, method: Method, client: Version, request: CallId) -> Body {
        let era = client.era();
        if let Some(said) = tool_fault(self) {
            if method == Method::ToolsCall {
                let result = Body::Result(failed_tool(&said, era, request).into());
                return compat::body(client, era, method, result);
            }
            let object = ErrorObject::new(error::INTERNAL_ERROR, said.message.clone());
            return Body::Error(object.with(&Reported::of(&said, request)).raw());
        }
        let text = || self.to_string();
        let object = match self {
            Self::Answered(error) => return Body::Error(error.clone()),
            Self::UnknownMethod(_) => ErrorObject::new(error::METHOD_NOT_FOUND, text()),
            Self::Header(_) => ErrorObject::new(error::HEADER_MISMATCH, text()),
            Self::Unknown { kind: "resource", name } => {
                let modern = era == Era::Modern;
                let code = if modern { error::INVALID_PARAMS } else { error::RESOURCE_NOT_FOUND };
                ErrorObject::new(code, "Resource not found").with(&json!({ "uri": name }))
            }
            Self::Invalid(_) | Self::Unknown { .. } | Self::State(_) | Self::Task(_) => {
                ErrorObject::new(error::INVALID_PARAMS, text())
            }
            Self::DuplicateId => ErrorObject::new(error::INVALID_REQUEST, text()),
            Self::MissingCapability(required) => {
                let text = "the server behind this asks for what the client has not declared";
                let object = ErrorObject::new(error::MISSING_CAPABILITY, text);
                object.with(&json!({ "requiredCapabilities": required }))
            }
            Self::Cancelled
            | Self::Unlisted(_)
            | Self::Unbridgeable(_)
            | Self::Denied
            | Self::StepUp(_)
            | Self::Limit(_)
            | Self::Unrecorded
            | Self::UnrecordedAnswer
            | Self::Limited(_)
            | Self::Guard(_)
            | Self::NoAnswer(_)
            | Self::Declined
            | Self::TaskCancelled
            | Self::Internal(_)
            | Self::Upstream { .. } => ErrorObject::new(error::INTERNAL_ERROR, text()),
        };
        Body::Error(object.raw())
    }
}

/// The text that a model reads when a tool fails.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ToolError {
    /// The reason, one of a closed set of words.
    pub error: &'static str,
    pub message: String,
    pub retriable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// A failure, and the request that failed, by which operators find it in their logs.
#[derive(serde::Serialize)]
struct Reported<'a> {
    #[serde(flatten)]
    said: &'a ToolError,
    request_id: String,
}

impl<'a> Reported<'a> {
    fn of(said: &'a ToolError, request: CallId) -> Self {
        Self { said, request_id: request.to_string() }
    }
}

/// The answer to a call that policies deny: not which policy, nor why.
const DENIED: &str = "You may not do this: not with these arguments, not at this time, or not \
                      without logging in with a second factor. Do not try it again unchanged.";

/// The answer to a call that cannot be recorded.
const UNRECORDED: &str = "This gateway cannot record calls now, and makes none unrecorded; nothing \
                          was done. Try again shortly.";

/// The answer to a call that was made, and cannot be recorded any more.
const UNRECORDED_ANSWER: &str = "This gateway cannot record calls any more, and gives no answer \
                                 unrecorded; what was asked for may have been done. Do not try it \
                                 again unless doing it twice is harmless.";

/// The answer to a call that did not end within `drain`.
const CUT: &str = "This gateway ended the call before it was done (`drain`): it stops, or its \
                   configuration has changed. What the call did is not known.";

/// The answer to a call that the gateway itself fails.
const INTERNAL: &str = "This gateway failed in itself, and cannot say what became of this; its log \
                        says more.";

/// How long a model should wait for a server that is being opened again.
const RETRY_AFTER_MS: u64 = 2_000;

/// Returns what a model reads where a call fails for a reason that it can do something about; none
/// for what is wrong with the request itself.
pub fn tool_fault(fault: &Fault) -> Option<ToolError> {
    let error = |error, message: &str, retriable| {
        Some(ToolError { error, message: message.to_owned(), retriable, retry_after_ms: None })
    };
    match fault {
        Fault::Upstream { error, .. } => Some(tool_error(error)),
        Fault::NoAnswer(_) => error(
            "service_timeout",
            "The server behind this asked the user something, and nobody answered in time. The \
             call was ended.",
            true,
        ),
        // The text names the limit and its size: nothing that a stranger may not read.
        Fault::Limit(text) => error("rate_limited", text, true),
        Fault::Unrecorded => Some(ToolError {
            error: "service_unavailable",
            message: UNRECORDED.to_owned(),
            retriable: true,
            retry_after_ms: Some(RETRY_AFTER_MS),
        }),
        Fault::UnrecordedAnswer => error("service_unavailable", UNRECORDED_ANSWER, false),
        Fault::Unlisted(kind) => Some(ToolError {
            error: "service_unavailable",
            message: unlisted(kind),
            retriable: true,
            retry_after_ms: Some(RETRY_AFTER_MS),
        }),
        Fault::Limited(refusal) => Some(ToolError {
            error: "rate_limited",
            message: refusal.to_string(),
            retriable: refusal.retry_after().is_some(),
            retry_after_ms: refusal.retry_after().map(milliseconds),
        }),
        Fault::Guard(refusal @ guard::GuardRefusal::Late) => Some(ToolError {
            error: refusal.word(),
            message: refusal.to_string(),
            retriable: true,
            retry_after_ms: Some(RETRY_AFTER_MS),
        }),
        Fault::Guard(refusal) => error(refusal.word(), &refusal.to_string(), false),
        Fault::Denied | Fault::StepUp(_) => error("access_denied", DENIED, false),
        Fault::Declined => error(
            "access_denied",
            "The server behind this wants a page to be opened first, and the user declined.",
            false,
        ),
        Fault::TaskCancelled => error(
            "upstream_error",
            "The server behind this cancelled what it was doing; what it did is not known.",
            true,
        ),
        Fault::UnknownMethod(_)
        | Fault::Invalid(_)
        | Fault::Header(_)
        | Fault::Unknown { .. }
        | Fault::DuplicateId
        | Fault::Cancelled
        | Fault::Unbridgeable(_)
        | Fault::State(_)
        | Fault::Task(_)
        | Fault::MissingCapability(_)
        | Fault::Answered(_)
        | Fault::Internal(_) => None,
    }
}

/// Returns the answer to a name that no list has, while one of the lists cannot be read: nothing of
/// the name, and not whose list that is.
fn unlisted(kind: &str) -> String {
    format!(
        "No {kind} of this name is known now, and a server that may have it is not ready; nothing \
         was done. Try again shortly."
    )
}

/// Rounded up: whoever comes after so long is not too early.
fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A failure that a model reads as the tool's own result.
fn failed_tool(said: &ToolError, era: Era, request: CallId) -> Raw {
    let result = json!({
        "content": [{ "type": "text", "text": format!("{} (request {request})", said.message) }],
        "structuredContent": Reported::of(said, request),
        "isError": true,
    });
    let edits: &[(&str, Option<&[u8]>)] = &[("resultType", Some(b"\"complete\""))];
    let result = Raw::encode(&result);
    if era == Era::Modern { splice::edit(&result, edits) } else { result }
}

/// A failure upstream in words that any client may read: no address, no command, no stack.
fn tool_error(error: &SendError) -> ToolError {
    if let Some(wait) = error.retry_after() {
        let what = if matches!(error, SendError::Refused(_)) {
            "has failed too often, and is left alone for a while; nothing was done"
        } else {
            "has no room for this now"
        };
        let seconds = limit::seconds(wait);
        return ToolError {
            error: "service_unavailable",
            message: format!("The server behind this {what}. Try again in {seconds} s."),
            retriable: true,
            retry_after_ms: Some(milliseconds(wait)),
        };
    }
    let (word, message, retriable) = match error {
        SendError::Unavailable(_) | SendError::Unready(_) | SendError::Refused(_) => (
            "service_unavailable",
            "The server behind this is not available now; nothing was done. Try again shortly.",
            true,
        ),
        SendError::Limited(_) => (
            "rate_limited",
            "Too much was asked of the server behind this; nothing was done. Try again shortly.",
            true,
        ),
        SendError::SessionGone => (
            "service_unavailable",
            "The server behind this lost its session; nothing was done. Try again.",
            true,
        ),
        SendError::Lost(why) if why == CLOSING => ("service_unavailable", CUT, true),
        SendError::Lost(_) => (
            "service_unavailable",
            "The server behind this was lost in mid-call; what it did is not known.",
            true,
        ),
        SendError::Idle(_) | SendError::Total(_) => (
            "service_timeout",
            "The server behind this did not answer in time; what it did is not known.",
            true,
        ),
        SendError::NoRoom => (
            "service_timeout",
            "The answer found no room in time among all that this gateway reads at once \
             (`incoming_answers_bytes_max`); what the server did is not known. Ask for less, or \
             try again.",
            true,
        ),
        SendError::TooLarge(_) => (
            "response_too_large",
            "The answer is larger than this gateway lets through. Ask for less.",
            false,
        ),
        // Proxies answer so in place of a server that is away, or has too much to do.
        SendError::Busy(..) | SendError::Status(429 | 502..=504, _) => (
            "service_unavailable",
            "The server behind this is not available now. Try again shortly.",
            true,
        ),
        SendError::Garbage(_) | SendError::Status(..) | SendError::Redirected(_) => (
            "upstream_error",
            "The server behind this answered with something that is no valid answer.",
            false,
        ),
    };
    let retry_after_ms = (word == "service_unavailable").then_some(RETRY_AFTER_MS);
    ToolError { error: word, message: message.to_owned(), retriable, retry_after_ms }
}
