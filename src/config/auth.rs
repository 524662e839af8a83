//! What `[auth.NAME]` says, and what a route asks of a login.

use std::time::Duration;

use super::ClientAuth;

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
    /// Access tokens that only their issuer can read (RFC 7662).
    Opaque(Box<OpaqueAuth>),
    /// The gate's own API keys.
    Keys(Vec<ApiKey>),
    /// Certificates that clients show in TLS.
    Certificate(CertificateAuth),
}

/// How small documents are fetched: metadata, keys, tokens, and what is known of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fetching {
    /// All requests of one attempt together. Default 10 s: some issuers wake from sleep.
    pub timeout: Duration,
    /// Bytes of one answer. Default 512 KiB: the largest issuers have a few tens of KiB.
    pub bytes_max: usize,
    /// Time in which nothing is fetched again, whoever wants it. Default of keys 10 s: a new one is
    /// in use sooner than that only after an emergency. Elsewhere 1 s, and after a failure only.
    pub pause: Duration,
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
    pub fetching: Fetching,
    /// Default `sub`.
    pub subject_claim: String,
    /// Default `groups`.
    pub groups_claim: String,
    /// Keys that an issuer may have. Default 100.
    pub keys_max: usize,
    /// Keys that are tried for a token that names none. Default 8: issuers have two or three.
    pub tries_max: usize,
    /// Bytes of a token. Default 16 KiB, more than a request's head has in most servers.
    pub token_bytes_max: usize,
    /// Tokens that are remembered as good. Default 10,000.
    pub tokens_max: usize,
    /// How long a token that was found good is taken at its word. Default 60 s: a signature costs
    /// 35 to 65 µs to check.
    pub remember: Duration,
}

/// An issuer that is asked about each token.
#[derive(Debug, Clone, PartialEq)]
pub struct OpaqueAuth {
    /// The introspection endpoint.
    pub url: String,
    /// As `iss` has it, where an answer has one.
    pub issuer: Option<String>,
    /// Who the gate is there.
    pub client: ClientAuth,
    /// Empty: the route itself.
    pub audiences: Vec<String>,
    pub leeway: Duration,
    pub fetching: Fetching,
    pub subject_claim: String,
    pub groups_claim: String,
    pub token_bytes_max: usize,
    /// Tokens that are remembered, good or not.
    pub tokens_max: usize,
    /// Default 60 s: so long a token that was revoked may still be taken.
    pub remember: Duration,
    /// How long a token that was refused is so without being asked about. Default 10 s.
    pub remember_refused: Duration,
    /// Tokens that are asked about at once. Default 64.
    pub asked_max: usize,
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

/// Holders of certificates that `client_ca` vouches for.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateAuth {
    pub subject: SubjectOf,
    /// Of all of them.
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
}

/// What of a certificate says whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SubjectOf {
    /// The one URI among its alternative names (SPIFFE).
    #[default]
    Uri,
    /// The one DNS name among them.
    Dns,
    /// Its subject, in the words of RFC 4514.
    Subject,
}

/// How a caller must have logged in (RFC 9470).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepUp {
    /// Classes of logins (`acr`), of which it must be one; empty: any.
    pub acr: Vec<String>,
    /// Methods (`amr`, RFC 8176), of which one must have been used; empty: any.
    pub amr: Vec<String>,
    /// How long ago at most.
    pub max_age: Option<Duration>,
}
