//! Who is calling: the credentials of a request, judged by the authorities of its route in their
//! order.
//!
//! A [`Door`] stands before each route. [`jwt`] takes tokens of an issuer, whose keys [`keyring`]
//! keeps; [`keys`] takes the gate's own API keys. What a failed login is told has no word of what
//! would have succeeded.

mod credential;
mod jwt;
mod keyring;
mod keys;

use std::{collections::BTreeMap, sync::Arc};

use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    call::{Identity, tasks::Tasks},
    config,
    net::Net,
    telemetry::{Counter, Counters},
};

use self::{credential::Credential, jwt::Tokens, keys::Keys};

pub use self::keys::NewKey;

/// What the authorities of all routes share.
#[derive(Debug, Clone)]
pub struct Means {
    pub net: Net,
    pub tasks: Tasks,
    pub counters: Arc<Counters>,
}

/// All authorities of a configuration, by their names. Cloned, they are the same.
#[derive(Debug, Clone, Default)]
pub struct Authorities(BTreeMap<String, Arc<Authority>>);

/// Whoever can say who a caller is.
#[derive(Debug)]
struct Authority {
    settings: config::Auth,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tokens(Arc<Tokens>),
    Keys(Keys),
}

/// What stands before a route. Without authorities it is open.
#[derive(Debug, Clone)]
pub struct Door {
    authorities: Vec<Arc<Authority>>,
    /// The route as the audience of tokens (RFC 8707, RFC 9728): an absolute URL.
    resource: String,
    scopes: Vec<String>,
    counters: Arc<Counters>,
}

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
    /// RFC 6750: `insufficient_scope`.
    #[error("the token lacks a scope; needed are: {}", .0.join(" "))]
    Scope(Vec<String>),
    /// The keys that would tell are out of reach, and there are none from before.
    #[error("logins cannot be checked at the moment: try again shortly")]
    Unavailable,
}

/// What one authority says of a credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It is of another authority's kind.
    Foreign,
    Error(AuthError),
}

impl Authorities {
    /// Those of a configuration; where a section is as it was, so is its authority, with the keys
    /// and the tokens it knows.
    pub fn build(settings: &[config::Auth], before: &Self, means: &Means) -> Self {
        let each = settings.iter().map(|settings| {
            let kept = before.0.get(&settings.name).filter(|kept| kept.settings == *settings);
            let authority =
                kept.map_or_else(|| Arc::new(Authority::new(settings.clone(), means)), Arc::clone);
            (settings.name.clone(), authority)
        });
        Self(each.collect())
    }

    /// What stands before this route.
    pub fn door(&self, route: &config::Route, counters: &Arc<Counters>) -> Door {
        let named = route.auth.iter().filter_map(|name| self.0.get(name));
        Door {
            authorities: named.cloned().collect(),
            resource: route.resource.clone(),
            scopes: route.scopes.clone(),
            counters: Arc::clone(counters),
        }
    }
}

impl Authority {
    fn new(settings: config::Auth, means: &Means) -> Self {
        let kind = match &settings.kind {
            config::AuthKind::Jwt(jwt) => Kind::Tokens(Tokens::new(&settings.name, jwt, means)),
            config::AuthKind::Keys(keys) => Kind::Keys(Keys::new(&settings.name, keys)),
        };
        Self { settings, kind }
    }

    async fn identify(
        &self,
        credential: &Credential,
        resource: &str,
    ) -> Result<Arc<Identity>, Refusal> {
        match (&self.kind, credential) {
            (Kind::Tokens(tokens), Credential::Bearer(token)) if !keys::is_key(token) => {
                tokens.identify(token, resource).await
            }
            (Kind::Keys(keys), Credential::Bearer(key) | Credential::ApiKey(key)) => {
                keys.identify(key)
            }
            (Kind::Tokens(_), _) => Err(Refusal::Foreign),
        }
    }
}

impl Door {
    /// Whether anybody may pass, unrecognised.
    pub fn is_open(&self) -> bool {
        self.authorities.is_empty()
    }

    /// Who sends these headers. Waits for an issuer's keys where they are not known yet: for its
    /// turn to fetch them, and for the answer, 10 s each at most.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Arc<Identity>, AuthError> {
        let identified = self.judge(headers).await;
        if let Err(error) = &identified {
            self.counters.add(match error {
                AuthError::Missing => Counter::RefusedAnonymous,
                AuthError::Malformed(_) | AuthError::Invalid(_) => Counter::RefusedCredentials,
                AuthError::Scope(_) => Counter::RefusedScopes,
                AuthError::Unavailable => Counter::AuthUnavailable,
            });
            tracing::debug!(resource = self.resource, %error, "nobody was recognised");
        }
        identified
    }

    async fn judge(&self, headers: &HeaderMap) -> Result<Arc<Identity>, AuthError> {
        let credential = Credential::of(headers)?;
        // What an authority finds wrong with a credential of its kind is more than that another
        // does not know it.
        let mut error = AuthError::Invalid("nobody here knows this credential");
        for authority in &self.authorities {
            match authority.identify(&credential, &self.resource).await {
                Ok(identity) => return self.scoped(identity),
                Err(Refusal::Foreign) => (),
                Err(Refusal::Error(said)) => error = said,
            }
        }
        Err(error)
    }

    fn scoped(&self, identity: Arc<Identity>) -> Result<Arc<Identity>, AuthError> {
        if self.scopes.iter().all(|scope| identity.scopes.contains(scope)) {
            return Ok(identity);
        }
        Err(AuthError::Scope(self.scopes.clone()))
    }

    /// The scopes that a caller needs, as `scope` has them; none where none are.
    pub fn scope(&self) -> Option<String> {
        (!self.scopes.is_empty()).then(|| self.scopes.join(" "))
    }

    /// OAuth 2.0 Protected Resource Metadata (RFC 9728 §2); none where no client can log in by
    /// itself.
    pub fn metadata(&self) -> Option<Value> {
        let issuers: Vec<_> = self
            .authorities
            .iter()
            .filter_map(|authority| match &authority.settings.kind {
                config::AuthKind::Jwt(jwt) => Some(jwt.issuer.as_str()),
                config::AuthKind::Keys(_) => None,
            })
            .collect();
        if issuers.is_empty() {
            return None;
        }
        let metadata = json!({
            "resource": self.resource,
            "authorization_servers": issuers,
            "bearer_methods_supported": ["header"],
            "scopes_supported": self.scopes,
        });
        Some(metadata)
    }

    /// Where that is to be had (RFC 9728 §3.1); none where it is not.
    pub fn metadata_url(&self) -> Option<String> {
        self.metadata()?;
        let path = self.path()?;
        let resource = self.resource.trim_end_matches('/');
        Some(format!("{}{WELL_KNOWN}{path}", resource.strip_suffix(path)?))
    }

    /// The path of the resource, as clients know it, without a slash at its end.
    pub fn path(&self) -> Option<&str> {
        let (_, rest) = self.resource.split_once("://")?;
        Some(rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("").trim_end_matches('/'))
    }
}

/// The path, before that of the resource.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
