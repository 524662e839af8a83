//! Why a request got no answer, and whose fault that is.

use std::time::Duration;

use crate::{
    limit,
    resilience::{AttemptOutcome, Cause, CircuitOpen},
};

use super::server_reason::ServerReason;

/// Why a request got no answer. What it says is for operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No connection was open; nothing was sent.
    #[error("{0}")]
    Unavailable(String),
    /// No connection was there for it in all the time that it had; nothing was sent.
    #[error("{0}")]
    Unready(String),
    /// A breaker rejected it; nothing was sent.
    #[error("{0}")]
    Refused(#[from] CircuitOpen),
    /// A limit of the upstream or its tool did not admit it; nothing was sent.
    #[error("{0}")]
    Limited(limit::LimitRefusal),
    /// The request was sent; what became of it is not known.
    #[error("lost in mid-call: {0}")]
    Lost(String),
    #[error("gave no sign of life for {0:?}")]
    Idle(Duration),
    #[error("did not finish within {0:?}")]
    Total(Duration),
    #[error("sent a message of more than {0} bytes")]
    TooLarge(usize),
    /// The gate read as many bytes of other answers as it may.
    #[error("has no room for its answer among all others (`incoming_answers_bytes_max`)")]
    NoRoom,
    #[error("sent something that is no MCP: {0}")]
    Garbage(String),
    /// The server's words about it are for operators.
    #[error("answered with HTTP status {0}{1}")]
    Status(u16, ServerReason),
    /// A redirect that is not followed: where it leads, without what may be secret, and why not.
    #[error("{0}")]
    Redirected(String),
    /// 429 or 503, with a `Retry-After`.
    #[error("answered with HTTP status {0}, and asks to be left alone for {1:?}")]
    Busy(u16, Duration),
    /// The upstream forgot the session; the request was not processed.
    #[error("no longer knows its session")]
    SessionGone,
}

impl SendError {
    /// Returns the kind of the failure, whatever else it says: a word of a closed set.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Unready(_) => "unready",
            Self::Refused(_) => "refused",
            Self::Limited(_) => "limited",
            Self::Lost(_) => "lost",
            Self::Idle(_) => "idle",
            Self::Total(_) => "total",
            Self::TooLarge(_) => "too_large",
            Self::NoRoom => "no_room",
            Self::Garbage(_) => "garbage",
            Self::Status(..) => "status",
            Self::Busy(..) => "busy",
            Self::Redirected(_) => "redirected",
            Self::SessionGone => "session_gone",
        }
    }

    /// Why it failed, as far as the server is to blame.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Unavailable(_) | Self::Lost(_) | Self::Garbage(_) => Some(Cause::Transport),
            Self::Idle(_) | Self::Total(_) => Some(Cause::Timeout),
            Self::Status(429, _) | Self::Busy(429, _) => Some(Cause::TooManyRequests),
            Self::Status(500.., _) | Self::Busy(..) => Some(Cause::ServerError),
            Self::Status(..)
            | Self::Redirected(_)
            | Self::TooLarge(_)
            | Self::NoRoom
            | Self::Unready(_)
            | Self::Refused(_)
            | Self::Limited(_)
            | Self::SessionGone => None,
        }
    }

    /// Whether the server cannot have seen anything of the request.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// How long the server, or the gate in its place, asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        let (Self::Busy(_, wait) | Self::Refused(CircuitOpen(wait))) = self else { return None };
        Some(*wait)
    }

    pub(super) fn ending(&self) -> AttemptOutcome {
        match (self.cause(), self) {
            (Some(cause), _) => AttemptOutcome::Failed(cause),
            (
                None,
                Self::SessionGone
                | Self::Unready(_)
                | Self::Refused(_)
                | Self::Limited(_)
                | Self::NoRoom,
            ) => AttemptOutcome::Unknown,
            (None, _) => AttemptOutcome::Answered,
        }
    }
}
