//! Everything that can end a call without an answer of the upstream's own.

use crate::{mcp::method::Method, upstream::SendError};

/// One variant a cause; `ingress::reply` turns it into a status and a code.
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
    #[error("a request with this id is under way already")]
    DuplicateId,
    #[error("cancelled")]
    Cancelled,
    /// The upstream wants something that this client's version of the protocol has no words for.
    #[error("the server behind this needs a newer client: {0}")]
    Unbridgeable(String),
    #[error("upstream: {error}")]
    Upstream { method: Method, error: SendError },
    #[error("{0}")]
    Limit(String),
}

/// What a model reads when a tool fails (DESIGN §8).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ToolError {
    /// One of a closed set of words.
    pub error: &'static str,
    pub message: String,
    pub retriable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// How long a model should wait for a server that is being opened again.
const RETRY_AFTER_MS: u64 = 2_000;

/// A failure upstream in words that any client may read: no address, no command, no stack.
pub fn tool_error(error: &SendError) -> ToolError {
    let (word, message, retriable) = match error {
        SendError::Unavailable(_) => (
            "service_unavailable",
            "The server behind this is not available now; nothing was done. Try again shortly.",
            true,
        ),
        SendError::SessionGone => (
            "service_unavailable",
            "The server behind this lost its session; nothing was done. Try again.",
            true,
        ),
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
        SendError::TooLarge(_) => (
            "response_too_large",
            "The answer is larger than this gateway lets through. Ask for less.",
            false,
        ),
        SendError::Garbage(_) | SendError::Status(_) => (
            "upstream_error",
            "The server behind this answered with something that is no valid answer.",
            false,
        ),
    };
    let retry_after_ms = (word == "service_unavailable").then_some(RETRY_AFTER_MS);
    ToolError { error: word, message: message.to_owned(), retriable, retry_after_ms }
}
