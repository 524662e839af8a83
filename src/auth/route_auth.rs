//! Checks logins before a route: who may pass, and what is told to who may not.

use std::{net::IpAddr, sync::Arc};

use http::HeaderMap;
use serde_json::{Value, json};

use crate::{
    call::{Identity, clock},
    config::{self, StepUp},
    telemetry::{Counter, Counters, throttle},
};

use super::{
    AuthError, AuthRefusal, Certificate,
    authority::{Authority, Kind, Presented},
    claims::has_stepped_up,
    context::Reach,
    credential::RequestCredential,
    keys,
    logins::{LoginSource, Logins},
};

/// The path, before that of the resource.
pub const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Characters of a key's id that are logged; the gate's own have fewer.
const KEY_SHOWN: usize = 32;

const UNKNOWN: AuthError = AuthError::Invalid("nobody here knows this credential");

/// The login check of a route. Without authorities it is open.
#[derive(Debug, Clone)]
pub struct RouteAuth {
    authorities: Vec<Arc<Authority>>,
    /// The route as the audience of tokens (RFC 8707, RFC 9728): an absolute URL.
    resource: String,
    scopes: Vec<String>,
    step_up: Option<StepUp>,
    logins: Option<Arc<Logins>>,
    counters: Arc<Counters>,
}

/// The peer at the other end of a connection.
#[derive(Debug, Clone)]
pub struct ClientPeer {
    pub address: IpAddr,
    /// Certificate that it has shown in TLS, verified.
    pub certificate: Option<Arc<Certificate>>,
}

impl RouteAuth {
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

    /// Returns who sends these headers. Waits for an issuer where it must be asked: for its turn,
    /// and for the answer, `fetch_timeout` each at most.
    ///
    /// # Errors
    /// Fails where the route demands a login and the credentials are missing, wrong, short of
    /// scopes or limited, or where no authority can judge them now.
    pub async fn identify(
        &self,
        peer: &ClientPeer,
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
            self.log(peer, headers, error);
        }
        identified
    }

    /// Logs for the operator who fails to log in. A caller that has not tried to has failed at
    /// nothing.
    fn log(&self, peer: &ClientPeer, headers: &HeaderMap, error: &AuthError) {
        let resource = &self.resource;
        let address = peer.address;
        let tried = !matches!(error, AuthError::Missing | AuthError::Unavailable);
        let Some(like) = throttle::passes(("login", address)).filter(|_| tried) else {
            return tracing::debug!(resource, %address, %error, "nobody was recognised");
        };
        let credential = RequestCredential::of(headers).ok();
        let key = credential.as_ref().and_then(|credential| match credential {
            RequestCredential::Bearer(key) | RequestCredential::ApiKey(key) => keys::id_of(key),
        });
        // A stranger wrote it: of a known one all characters are such.
        let key = key.filter(|key| key.len() <= KEY_SHOWN && is_plain(key));
        let authority =
            key.and_then(|key| self.authority_of(key)).map(|found| &found.settings.name);
        let more = like.more;
        tracing::warn!(resource, %address, authority, key, %error, more, "a login failed");
    }

    async fn judge(
        &self,
        peer: &ClientPeer,
        headers: &HeaderMap,
    ) -> Result<Arc<Identity>, AuthError> {
        let certificate = peer.certificate.as_deref();
        let (credential, malformed) = match RequestCredential::of(headers) {
            Ok(credential) => (Some(credential), None),
            Err(error) => (None, Some(error)),
        };
        let broken = matches!(malformed, Some(AuthError::Malformed(_)));
        let shown =
            Presented { credential: credential.as_ref(), certificate, resource: &self.resource };
        // A credential that is known to be good is so, whatever others from there do.
        let known = || self.authorities.iter().find_map(|authority| authority.known(shown));
        if let Some(identity) = (!broken).then(known).flatten() {
            return self.admitted(identity);
        }
        if malformed == Some(AuthError::Missing) && certificate.is_none() {
            return Err(AuthError::Missing);
        }
        let source = LoginSource::Network(peer.address);
        let logins = self.logins.as_deref();
        if let Some((logins, wait)) = logins.and_then(|all| Some((all, all.wait(source)?))) {
            let limited = AuthError::Limited(wait);
            return if broken { Err(limited) } else { self.check(shown, logins, limited).await };
        }
        let error = match malformed {
            Some(error) if broken => error,
            missing => match self.ask(shown, Reach::Anywhere).await {
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

    /// Checks a credential as far as that can be done here, from where too many have failed: one
    /// that is right is no guess, and nor is one that was.
    async fn check(
        &self,
        shown: Presented<'_>,
        logins: &Logins,
        limited: AuthError,
    ) -> Result<Arc<Identity>, AuthError> {
        match self.ask(shown, Reach::Here(logins)).await {
            Ok(identity) => self.admitted(identity),
            Err(Some(expired @ AuthError::Expired(_))) => Err(expired),
            Err(_) => Err(limited),
        }
    }

    /// Asks the authorities, in their order; nothing where none knows the kind. What one finds
    /// wrong with a credential of its kind is more than that another does not know it.
    async fn ask(
        &self,
        shown: Presented<'_>,
        reach: Reach<'_>,
    ) -> Result<Arc<Identity>, Option<AuthError>> {
        let mut error = None;
        for authority in &self.authorities {
            // A token that is another issuer's for certain is not shown to this one.
            if error.is_some() && matches!(authority.kind, Kind::Opaque(_)) {
                continue;
            }
            match authority.identify(shown, reach).await {
                Ok(identity) => return Ok(identity),
                Err(AuthRefusal::Foreign) => (),
                Err(AuthRefusal::Error(said)) => error = Some(said),
            }
        }
        Err(error)
    }

    /// Counts a wrong secret of a key that there is, wherever it comes from.
    fn limited_by_key(&self, logins: &Logins, shown: &Presented<'_>) -> Option<AuthError> {
        let (RequestCredential::Bearer(key) | RequestCredential::ApiKey(key)) = shown.credential?;
        let id = keys::id_of(key)?;
        let authority = self.authority_of(id)?;
        let source = LoginSource::Key(&authority.settings.name, id);
        let wait = logins.wait(source);
        if wait.is_none() {
            logins.failed(source);
        }
        wait.map(AuthError::Limited)
    }

    /// Returns the authority that has the key of this id.
    fn authority_of(&self, id: &str) -> Option<&Arc<Authority>> {
        let has = |authority: &&Arc<Authority>| match &authority.kind {
            Kind::Keys(keys) => keys.has(id),
            Kind::Tokens(_) | Kind::Opaque(_) | Kind::Certificates(_) => false,
        };
        self.authorities.iter().find(has)
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
    pub fn still_valid(&self, identity: &Identity) -> bool {
        let named = |authority: &&Arc<Authority>| authority.settings.name == identity.authority;
        let authority = self.authorities.iter().find(named);
        self.is_open()
            || identity.expires.is_none_or(|until| clock::unix_seconds() < until)
                && authority.is_some_and(|authority| authority.still_valid(identity))
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

    /// Returns where the metadata is to be had (RFC 9728 §3.1); none where it is not.
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

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
