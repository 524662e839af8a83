//! Callers who proved who they are.

use std::{
    collections::BTreeSet,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use zeroize::Zeroizing;

use crate::mcp::raw::Raw;

/// Identity of a caller who proved who they are. Two are the same where one authority knows both by
/// one subject: what else it says of them changes with each token.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The name of the `[auth.NAME]` section that vouches for it.
    pub authority: String,
    /// The issuer of its tokens; empty for a key. Another issuer's subjects are other people.
    pub issuer: String,
    /// A token's `sub`, the id of a key: one of its authority's.
    pub subject: String,
    pub groups: BTreeSet<String>,
    pub scopes: BTreeSet<String>,
    /// All that a token claims, an object; that of a key has its label.
    pub claims: Raw,
    /// When the proof ends, in seconds since 1970; none where it does not.
    pub expires: Option<u64>,
    /// The hash of the API key, where it was one.
    pub key: Option<[u8; 32]>,
    /// The token, where it was one: for upstreams that are configured to have it.
    pub token: Option<Token>,
}

/// An access token of a caller, which is never printed, and is written over when the last that
/// holds it gives it up.
#[derive(Clone)]
pub struct Token(Arc<Zeroizing<String>>);

impl Token {
    pub fn new(text: &str) -> Self {
        Self(Arc::new(Zeroizing::new(text.to_owned())))
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Nobody yet.
impl Default for Identity {
    fn default() -> Self {
        Self {
            authority: String::new(),
            issuer: String::new(),
            subject: String::new(),
            groups: BTreeSet::new(),
            scopes: BTreeSet::new(),
            claims: Raw::object(),
            expires: None,
            key: None,
            token: None,
        }
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        let other = (&other.authority, &other.issuer, &other.subject);
        (&self.authority, &self.issuer, &self.subject) == other
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.authority, &self.issuer, &self.subject).hash(state);
    }
}
