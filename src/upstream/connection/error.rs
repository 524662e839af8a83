//! Why a connection was not opened, and what that says of the server.

use serde::Deserialize;

use crate::{
    mcp::{error, raw::Raw},
    upstream::exchange::error::SendError,
};

/// Why a connection was not opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Send(#[from] SendError),
    /// `status` is that of HTTP, where there is one.
    #[error("it refused `{method}`: {}", message_of(error))]
    Refused { method: &'static str, error: Raw, status: u16 },
    #[error("it speaks no HTTP+SSE: {0}")]
    NoStream(String),
    /// The stream names an endpoint elsewhere.
    #[error("its stream names the endpoint `{0}`, which is no address of the same origin as `url`")]
    Endpoint(String),
    #[error("it speaks version `{0}`, which is no version of MCP that can be agreed on here")]
    Version(String),
    #[error("its answer to `{0}` is no valid one")]
    Answer(&'static str),
    #[error("it does not speak 2026-07-28, which `era` demands")]
    NotModern,
}

impl OpenError {
    /// The server itself would not have it: it is not for lack of a connection, of time, or of
    /// credentials.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Version(_) | Self::Answer(_) | Self::NotModern => true,
            Self::Send(SendError::Status(status, _)) => {
                (400..500).contains(status) && ![401, 403, 407, 408, 429].contains(status)
            }
            Self::Send(_) | Self::NoStream(_) | Self::Endpoint(_) => false,
        }
    }

    /// Whether the opening was not even tried, for want of room on this machine.
    pub fn is_unready(&self) -> bool {
        matches!(self, Self::Send(SendError::Unready(_)))
    }

    /// The process or the connection ended before there was an answer.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Send(SendError::Lost(_)))
    }

    /// A server of the older HTTP+SSE answers so (transports: backwards compatibility).
    pub fn leaves_sse(&self) -> bool {
        let status = match self {
            Self::Send(SendError::Status(status, _)) => *status,
            Self::Refused { error, status, .. } if !error::is_modern(refused_versions(error).0) => {
                *status
            }
            Self::Send(_)
            | Self::Refused { .. }
            | Self::NoStream(_)
            | Self::Endpoint(_)
            | Self::Version(_)
            | Self::Answer(_)
            | Self::NotModern => return false,
        };
        [400, 404, 405].contains(&status)
    }
}

pub fn unavailable(why: String) -> OpenError {
    OpenError::Send(SendError::Unavailable(why))
}

/// The words of an error object.
pub fn message_of(error: &Raw) -> String {
    #[derive(Deserialize)]
    struct Words {
        message: String,
    }
    error.try_read::<Words>().map_or_else(|| "without a word".to_owned(), |error| error.message)
}

/// The code of an error object, and the versions that it says are supported.
pub fn refused_versions(error: &Raw) -> (i64, Vec<String>) {
    #[derive(Deserialize)]
    struct Refusal {
        code: i64,
        data: Option<Data>,
    }
    #[derive(Deserialize)]
    struct Data {
        #[serde(default)]
        supported: Vec<String>,
    }
    let refusal = error.try_read::<Refusal>();
    refusal.map_or((0, Vec::new()), |refusal| {
        (refusal.code, refusal.data.map(|data| data.supported).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::upstream::exchange::server_reason::ServerReason;

    use super::*;

    #[test]
    fn some_refusals_leave_the_older_transport() {
        let status = |status| OpenError::Send(SendError::Status(status, ServerReason::default()));
        let refused = |code: i64, status| {
            let error = Raw::encode(&serde_json::json!({ "code": code, "message": "no" }));
            OpenError::Refused { method: "initialize", error, status }
        };
        for error in [status(400), status(404), status(405), refused(-32000, 405)] {
            assert!(error.leaves_sse(), "{error:?}");
        }
        for error in [
            status(401),
            status(406),
            status(415),
            status(500),
            refused(-32000, 200),
            refused(-32022, 400),
            OpenError::Send(SendError::Idle(Duration::ZERO)),
            OpenError::Version("1".to_owned()),
        ] {
            assert!(!error.leaves_sse(), "{error:?}");
        }
    }
}
