//! Who the gate is to others, and whose name it uses with an upstream.

use std::time::Duration;

use super::{Fetching, Secret};

/// What an upstream is shown in `Authorization`.
#[derive(Debug, Clone, PartialEq)]
pub enum Credential {
    /// The gate's own token (OAuth 2.0 client credentials).
    Client(Box<Grant>),
    /// The caller's token, exchanged for one that is for this upstream (RFC 8693).
    Exchange(Box<Exchange>),
    /// The caller's token itself.
    Pass,
    /// A signature of each request (AWS, version 4).
    Aws(Box<SigV4>),
}

impl Credential {
    /// Whether it says who the caller is, so that what it opens is that caller's alone.
    pub fn is_callers(&self) -> bool {
        matches!(self, Self::Exchange(_) | Self::Pass)
    }
}

/// How tokens are had of an authorization server.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// None: found from the upstream's address (RFC 9728, RFC 8414).
    pub token_url: Option<String>,
    pub client: ClientAuth,
    pub scopes: Vec<String>,
    pub audience: Option<String>,
    pub fetching: Fetching,
    /// A token that came so short a time ago in place of a refused one, and is refused, too, is not
    /// replaced. Default 5 s.
    pub refused_pause: Duration,
}

/// How callers' tokens are exchanged. The gate's own requests, such as lists, go with a token of
/// the gate's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    pub grant: Grant,
    /// Tokens that are kept, one for each caller's. Default 10,000.
    pub tokens_max: usize,
}

/// Who the gate is to an authorization server.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientAuth {
    pub id: String,
    pub secret: ClientSecret,
}

/// How the gate proves who it is, and where it says so.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientSecret {
    /// In a header (RFC 6749 §2.3.1).
    Basic(Secret),
    /// In the form.
    Post(Secret),
    /// By a JWT that it signs (RFC 7523 §2.2).
    PrivateKey { pem: Secret, algorithm: String, key_id: Option<String> },
}

/// Keys of AWS, and what they are used for.
#[derive(Debug, Clone, PartialEq)]
pub struct SigV4 {
    pub region: String,
    /// Such as `execute-api` or `lambda`.
    pub service: String,
    pub access_key_id: Secret,
    pub secret_access_key: Secret,
    pub session_token: Option<Secret>,
}
