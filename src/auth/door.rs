//! What stands before a route: who may pass, and what is told to who may not.

use std::{net::IpAddr, sync::Arc};

use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    call::{Identity, clock},
    config::{self, StepUp},
    telemetry::{Counter, Counters},
};

use super::{
    AuthError, Authority, Certificate, Kind, Refusal, Shown,
    claims::has_stepped_up,
    credential::Credential,
    keys,
    logins::{Logins, Source},
};

/// The path, before that of the resource.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

const UNKNOWN: AuthError = AuthError::Invalid("nobody here knows this credential");

/// What stands before a route. Without authorities it is open.
#[derive(Debug, Clone)]
pub struct Door {
    authorities: Vec<Arc<Authority>>,
    /// The route as the audience of tokens (RFC 8707, RFC 9728): an absolute URL.
    resource: String,
    scopes: Vec<String>,
    step_up: Option<StepUp>,
    logins: Option<Arc<Logins>>,
    counters: Arc<Counters>,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: IpAddr,
    /// What it has shown in TLS, verified.
    pub certificate: Option<Arc<Certificate>>,
}

impl Door {
    pub(super) fn new(
        authorities: Vec<Arc<Authority>>,
        route: &config::Route,
        logins: Option<Arc<Logins>>,
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            authorities,
            resource: route.resource.clone(),
            scopes: route.scopes.clone(),
            step_up: route.step_up.clone(),
            logins,
            counters: Arc::clone(counters),
        }
    }

    /// Whether anybody may pass, unrecognised.
    pub fn is_open(&self) -> bool {
        self.authorities.is_empty()
    }

    /// Who sends these headers. Waits for an issuer where it must be asked: for its turn, and for
    /// the answer, `fetch_timeout` each at most.
    pub async fn identify(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
    ) -> Result<Arc<Identity>, AuthError> {
        let identified = self.judge(peer, headers).await;
        if let Err(error) = &identified {
            self.counters.add(match error {
                AuthError::Missing => Counter::RefusedAnonymous,
                AuthError::Malformed(_) | AuthError::Invalid(_) | AuthError::Expired(_) => {
                    Counter::RefusedCredentials
                }
                AuthError::Scope(_) => Counter::RefusedScopes,
                AuthError::StepUp(_) => Counter::RefusedStepUp,
                AuthError::Limited(_) => Counter::RefusedLogins,
                AuthError::Unavailable => Counter::AuthUnavailable,
            });
            tracing::debug!(resource = self.resource, %error, "nobody was recognised");
        }
        identified
    }

    async fn judge(&self, peer: &Peer, headers: &HeaderMap) -> Result<Arc<Identity>, AuthError> {
        let certificate = peer.certificate.as_deref();
        let (credential, malformed) = match Credential::of(headers) {
            Ok(credential) => (Some(credential), None),
            Err(error) => (None, Some(error)),
        };
        let broken = matches!(malformed, Some(AuthError::Malformed(_)));
        let shown =
            Shown { credential: credential.as_ref(), certificate, resource: &self.resource };
        // What is known to be good is so, whatever others from there do.
        let known = || self.authorities.iter().find_map(|authority| authority.known(shown));
        if let Some(identity) = (!broken).then(known).flatten() {
            return self.admitted(identity);
        }
        if malformed == Some(AuthError::Missing) && certificate.is_none() {
            return Err(AuthError::Missing);
        }
        let source = Source::Network(peer.address);
        let logins = self.logins.as_deref();
        if let Some(wait) = logins.and_then(|logins| logins.wait(source)) {
            return Err(AuthError::Limited(wait));
        }
        let error = match malformed {
            Some(error) if broken => error,
            missing => match self.ask(shown).await {
                Ok(identity) => return self.admitted(identity),
                Err(None) => missing.unwrap_or(UNKNOWN),
                Err(Some(error)) => error,
            },
        };
        if matches!(error, AuthError::Malformed(_) | AuthError::Invalid(_))
            && let Some(logins) = logins
        {
            logins.failed(source);
            return Err(self.limited_by_key(logins, &shown).unwrap_or(error));
        }
        Err(error)
    }

    /// What the authorities say, in their order; nothing where none knows the kind. What one finds
    /// wrong with a credential of its kind is more than that another does not know it.
    async fn ask(&self, shown: Shown<'_>) -> Result<Arc<Identity>, Option<AuthError>> {
        let mut error = None;
        for authority in &self.authorities {
            // A token that is another issuer's for certain is not shown to this one.
            if error.is_some() && matches!(authority.kind, Kind::Opaque(_)) {
                continue;
            }
            match authority.identify(shown).await {
                Ok(identity) => return Ok(identity),
                Err(Refusal::Foreign) => (),
                Err(Refusal::Error(said)) => error = Some(said),
            }
        }
        Err(error)
    }

    /// Counts a wrong secret of a key that there is, wherever it comes from.
    fn limited_by_key(&self, logins: &Logins, shown: &Shown<'_>) -> Option<AuthError> {
        let (Credential::Bearer(key) | Credential::ApiKey(key)) = shown.credential?;
        let id = keys::id_of(key)?;
        let has = |authority: &&Arc<Authority>| match &authority.kind {
            Kind::Keys(keys) => keys.has(id),
            Kind::Tokens(_) | Kind::Opaque(_) | Kind::Certificates(_) => false,
        };
        let authority = self.authorities.iter().find(has)?;
        let source = Source::Key(&authority.settings.name, id);
        let wait = logins.wait(source);
        if wait.is_none() {
            logins.failed(source);
        }
        wait.map(AuthError::Limited)
    }

    fn admitted(&self, identity: Arc<Identity>) -> Result<Arc<Identity>, AuthError> {
        if !self.has_scopes(&identity) {
            return Err(AuthError::Scope(self.scopes.clone()));
        }
        match &self.step_up {
            Some(demanded) if !has_stepped_up(&identity, demanded) => {
                Err(AuthError::StepUp(demanded.clone()))
            }
            Some(_) | None => Ok(identity),
        }
    }

    fn has_scopes(&self, identity: &Identity) -> bool {
        self.scopes.iter().all(|scope| identity.scopes.contains(scope))
    }

    /// Whether somebody who was recognised earlier may still be here: their key was not taken
    /// away, their proof has not ended, and the route takes their kind.
    pub fn vouches(&self, identity: &Identity) -> bool {
        let named = |authority: &&Arc<Authority>| authority.settings.name == identity.authority;
        let authority = self.authorities.iter().find(named);
        self.is_open()
            || identity.expires.is_none_or(|until| clock::unix_seconds() < until)
                && authority.is_some_and(|authority| authority.vouches(identity))
                && self.has_scopes(identity)
    }

    /// The scopes that a caller needs, as `scope` has them; none where none are.
    pub fn scope(&self) -> Option<String> {
        (!self.scopes.is_empty()).then(|| self.scopes.join(" "))
    }

    /// OAuth 2.0 Protected Resource Metadata (RFC 9728 §2); none where no client can log in by
    /// itself.
    pub fn metadata(&self) -> Option<Value> {
        let issuers = self.authorities.iter().filter_map(|authority| authority.issuer());
        let issuers: Vec<_> = issuers.collect();
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
