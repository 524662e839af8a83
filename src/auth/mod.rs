//! Who is calling: the credentials of a request, judged by the authorities of its route in their
//! order.
//!
//! A [`RouteAuth`] stands before each route. [`jwt`] takes tokens of an issuer, whose keys
//! [`keyring`] keeps; [`opaque`] asks an issuer about tokens; [`keys`] takes the gate's own API
//! keys; [`certificate`] reads what clients show in TLS. [`logins`] counts those that fail. A
//! failed login is told nothing of what would have succeeded.

mod certificate;
mod claims;
mod client;
mod credential;
mod route_auth;
mod jwt;
mod keyring;
mod keys;
mod logins;
mod opaque;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    call::{Identity, tasks::Tasks},
    config::{self, Config, StepUp},
    net::Net,
    telemetry::Counters,
};

use self::{
    certificate::CertificateAuthority, credential::RequestCredential, jwt::Tokens, keys::ApiKeys,
    logins::Logins, opaque::Opaque,
};

pub use self::{
    certificate::Certificate,
    client::{Metadata, form, well_known},
    keys::NewKey,
    route_auth::{ClientPeer, RouteAuth, WELL_KNOWN},
};

/// Network, tasks and counters that the authorities of all routes share.
#[derive(Debug, Clone)]
pub struct AuthContext {
    pub net: Net,
    pub tasks: Tasks,
    pub counters: Arc<Counters>,
}

/// All authorities of a configuration, by their names. Cloned, they are the same.
#[derive(Debug, Clone, Default)]
pub struct AuthorityRegistry {
    all: BTreeMap<String, Arc<Authority>>,
    logins: Option<Arc<Logins>>,
}

/// Whoever can say who a caller is.
#[derive(Debug)]
struct Authority {
    settings: config::Auth,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tokens(Arc<Tokens>),
    Opaque(Arc<Opaque>),
    Keys(ApiKeys),
    Certificates(CertificateAuthority),
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
    /// Whoever would tell is out of reach, and nothing is known from before.
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

/// How far a credential may be followed.
#[derive(Debug, Clone, Copy)]
enum Reach<'a> {
    /// Issuers are asked.
    Anywhere,
    /// Only credentials that can be checked here, by keys that are known already; an issuer is
    /// asked only about a token that was good before.
    Here(&'a Logins),
}

/// The credentials that a caller shows.
#[derive(Debug, Clone, Copy)]
struct Presented<'a> {
    credential: Option<&'a RequestCredential>,
    certificate: Option<&'a Certificate>,
    /// The route as the audience of tokens.
    resource: &'a str,
}

impl AuthorityRegistry {
    /// Builds the authorities of a configuration; where a section is as it was, so is its
    /// authority, with the keys and the tokens it knows.
    pub fn build(config: &Config, before: &Self, means: &AuthContext) -> Self {
        let each = config.auth.iter().map(|settings| {
            let kept = before.all.get(&settings.name).filter(|kept| kept.settings == *settings);
            let authority =
                kept.map_or_else(|| Arc::new(Authority::new(settings.clone(), means)), Arc::clone);
            (settings.name.clone(), authority)
        });
        let limits = &config.server.limits;
        let kept = before.logins.as_ref().filter(|kept| kept.is_of(limits));
        let logins =
            kept.map_or_else(|| Arc::new(Logins::new(limits, &means.counters)), Arc::clone);
        Self { all: each.collect(), logins: Some(logins) }
    }

    /// Makes the login check of this route.
    pub fn route_auth(&self, route: &config::Route, counters: &Arc<Counters>) -> RouteAuth {
        let named = route.auth.iter().filter_map(|name| self.all.get(name));
        RouteAuth::new(named.cloned().collect(), route, self.logins.clone(), counters)
    }
}

impl Authority {
    fn new(settings: config::Auth, means: &AuthContext) -> Self {
        let name = &settings.name;
        let kind = match &settings.kind {
            config::AuthKind::Jwt(jwt) => Kind::Tokens(Tokens::new(name, jwt, means)),
            config::AuthKind::Opaque(opaque) => Kind::Opaque(Opaque::new(name, opaque, means)),
            config::AuthKind::Keys(keys) => Kind::Keys(ApiKeys::new(name, keys)),
            config::AuthKind::Certificate(certificates) => {
                Kind::Certificates(CertificateAuthority::new(name, certificates))
            }
        };
        Self { settings, kind }
    }

    /// Who it is, as far as that is known without any effort.
    fn known(&self, shown: Presented<'_>) -> Option<Arc<Identity>> {
        match (&self.kind, shown.credential) {
            (Kind::Tokens(tokens), Some(RequestCredential::Bearer(token))) => {
                tokens.known(token, shown.resource)
            }
            (Kind::Opaque(opaque), Some(RequestCredential::Bearer(token))) => {
                opaque.known(token, shown.resource)
            }
            // One hash tells.
            (
                Kind::Keys(keys),
                Some(RequestCredential::Bearer(key) | RequestCredential::ApiKey(key)),
            ) => keys.identify(key).ok(),
            (Kind::Certificates(all), _) => {
                shown.certificate.and_then(|shown| all.identify(shown).ok())
            }
            (Kind::Tokens(_) | Kind::Opaque(_) | Kind::Keys(_), _) => None,
        }
    }

    /// Who it is. Keys of the gate's own are shown to no issuer.
    async fn identify(
        &self,
        shown: Presented<'_>,
        reach: Reach<'_>,
    ) -> Result<Arc<Identity>, AuthRefusal> {
        match (&self.kind, shown.credential) {
            (Kind::Tokens(tokens), Some(RequestCredential::Bearer(token)))
                if !keys::is_key(token) =>
            {
                tokens.identify(token, shown.resource, reach).await
            }
            (Kind::Opaque(opaque), Some(RequestCredential::Bearer(token)))
                if !keys::is_key(token)
                    && (matches!(reach, Reach::Anywhere)
                        || opaque.was_good(token, shown.resource)) =>
            {
                opaque.identify(token, shown.resource).await
            }
            (
                Kind::Keys(keys),
                Some(RequestCredential::Bearer(key) | RequestCredential::ApiKey(key)),
            ) => keys.identify(key),
            (Kind::Certificates(all), _) => {
                shown.certificate.map_or(Err(AuthRefusal::Foreign), |shown| all.identify(shown))
            }
            (Kind::Tokens(_) | Kind::Opaque(_) | Kind::Keys(_), _) => Err(AuthRefusal::Foreign),
        }
    }

    /// Whether a caller whom it vouched for is still one.
    fn still_valid(&self, identity: &Identity) -> bool {
        match (&self.kind, &self.settings.kind) {
            (Kind::Keys(keys), _) => keys.still_valid(identity),
            (_, config::AuthKind::Jwt(jwt)) => jwt.issuer == identity.issuer,
            _ => true,
        }
    }

    /// Where clients can log in for it.
    fn issuer(&self) -> Option<&str> {
        match &self.settings.kind {
            config::AuthKind::Jwt(jwt) => Some(&jwt.issuer),
            config::AuthKind::Opaque(opaque) => opaque.issuer.as_deref(),
            config::AuthKind::Keys(_) | config::AuthKind::Certificate(_) => None,
        }
    }
}
