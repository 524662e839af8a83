//! Why nobody was recognised.

use std::time::Duration;

use crate::config::StepUp;

/// Why nobody was recognised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("this needs a login: send `Authorization: Bearer …`")]
    Missing,
    /// The credentials themselves are no credentials (RFC 6750: `invalid_request`).
    #[error("{0}")]
    Malformed(&'static str),
    /// RFC 6750: `invalid_token`.
    #[error("{0}")]
    Invalid(&'static str),
    /// A token that used to be valid; not counted as a guessing attempt.
    #[error("{0}")]
    Expired(&'static str),
    /// RFC 6750: `insufficient_scope`.
    #[error("the token lacks a scope; needed are: {}", .0.join(" "))]
    Scope(Vec<String>),
    /// RFC 9470: `insufficient_user_authentication`.
    #[error("this needs another login, a stronger or a more recent one")]
    StepUp(StepUp),
    /// Too many logins from there have failed; one is listened to after so long.
    #[error("too many logins have failed: try again later")]
    Limited(Duration),
    /// The issuer that would tell is out of reach, and nothing is known from before.
    #[error("logins cannot be checked at the moment: try again shortly")]
    Unavailable,
}

/// Refusal of a credential by one authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthRefusal {
    /// The credential is of another authority's kind.
    Foreign,
    Error(AuthError),
}
