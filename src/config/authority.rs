//! Who says who a caller is, and how the gate says who it is to an upstream.

use std::time::Duration;

use super::Secret;

/// `[auth.NAME]`: who can say who a caller is.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// `[a-z0-9_-]`, at most 32 characters.
    pub name: String,
    pub kind: AuthKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum AuthKind {
    /// Access tokens that are JWTs of one issuer.
    Jwt(Box<JwtAuth>),
    /// The gate's own API keys.
    Keys(Vec<ApiKey>),
}

/// An issuer of JWTs.
#[derive(Debug, Clone, PartialEq)]
pub struct JwtAuth {
    pub issuer: String,
    pub jwks_url: Option<String>,
    /// Empty: the route itself.
    pub audiences: Vec<String>,
    /// By their names (RFC 7518 §3.1). Default all that have a public key.
    pub algorithms: Vec<String>,
    /// How far clocks may differ. Default 30 s.
    pub leeway: Duration,
    /// Age at which keys are fetched again. Default 10 min, what issuers allow caches.
    pub refresh: Duration,
    /// Age up to which keys are used while the issuer is out of reach. Default 24 h: nobody is
    /// locked out by a night's outage.
    pub stale: Duration,
    /// Between two fetches of keys, whoever wants them. Default 10 s: a new key is in use sooner
    /// than that only after an emergency.
    pub fetch_pause: Duration,
    /// Default `sub`.
    pub subject_claim: String,
    /// Default `groups`.
    pub groups_claim: String,
    /// Keys that an issuer may have. Default 100.
    pub keys_max: usize,
    /// Bytes of a token. Default 16 KiB, more than a request's head has in most servers.
    pub token_bytes_max: usize,
    /// Tokens that are remembered as good. Default 10,000.
    pub tokens_max: usize,
}

/// An API key, as far as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    pub id: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    pub caller: String,
    pub label: Option<String>,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    /// Seconds since 1970.
    pub expires: Option<u64>,
}

/// How the gate gets an access token for an upstream (OAuth 2.0 client credentials).
#[derive(Debug, Clone, PartialEq)]
pub struct Credential {
    /// None: found from the upstream's address (RFC 9728, RFC 8414).
    pub token_url: Option<String>,
    pub client_id: String,
    pub secret: ClientSecret,
    pub scopes: Vec<String>,
    pub audience: Option<String>,
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
