//! An authority identifies callers by the credentials of its kind.

use std::sync::Arc;

use crate::{
    call::Identity,
    config::{self},
};

use super::{
    certificate::{Certificate, CertificateAuthority},
    context::{AuthContext, Reach},
    credential::RequestCredential,
    error::AuthRefusal,
    jwt::Tokens,
    keys::{self, ApiKeys},
    opaque::Opaque,
};

/// An authority that can say who a caller is.
#[derive(Debug)]
pub(super) struct Authority {
    pub(super) settings: config::Auth,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Tokens(Arc<Tokens>),
    Opaque(Arc<Opaque>),
    Keys(ApiKeys),
    Certificates(CertificateAuthority),
}

/// The credentials that a caller shows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Presented<'a> {
    pub(super) credential: Option<&'a RequestCredential>,
    pub(super) certificate: Option<&'a Certificate>,
    /// The route as the audience of tokens.
    pub(super) resource: &'a str,
}

impl Authority {
    pub(super) fn new(settings: config::Auth, means: &AuthContext) -> Self {
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

    /// Begins what it does without being asked.
    pub(super) fn begin(&self) {
        if let Kind::Tokens(tokens) = &self.kind {
            tokens.begin();
        }
    }

    /// Returns why its issuer could not be asked the last time; none where it could.
    pub(super) fn fault(&self) -> Option<String> {
        match &self.kind {
            Kind::Tokens(tokens) => tokens.fault(),
            Kind::Opaque(opaque) => opaque.fault(),
            Kind::Keys(_) | Kind::Certificates(_) => None,
        }
    }

    /// Returns who it is, as far as that is known without any effort.
    pub(super) fn known(&self, shown: Presented<'_>) -> Option<Arc<Identity>> {
        match (&self.kind, shown.credential) {
            (Kind::Tokens(tokens), Some(RequestCredential::Bearer(token))) => {
                tokens.known(token, shown.resource)
            }
            (Kind::Opaque(opaque), Some(RequestCredential::Bearer(token))) => {
                opaque.known(token, shown.resource)
            }
            // A hash tells.
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

    /// Returns who it is. Keys of the gate's own are shown to no issuer.
    pub(super) async fn identify(
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
    pub(super) fn still_valid(&self, identity: &Identity) -> bool {
        match (&self.kind, &self.settings.kind) {
            (Kind::Keys(keys), _) => keys.still_valid(identity),
            (_, config::AuthKind::Jwt(jwt)) => jwt.issuer == identity.issuer,
            _ => true,
        }
    }

    /// Returns where clients can log in for it.
    pub(super) fn issuer(&self) -> Option<&str> {
        match &self.settings.kind {
            config::AuthKind::Jwt(jwt) => Some(&jwt.issuer),
            config::AuthKind::Opaque(opaque) => opaque.issuer.as_deref(),
            config::AuthKind::Keys(_) | config::AuthKind::Certificate(_) => None,
        }
    }
}
