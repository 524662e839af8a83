//! Access tokens that are JWTs (RFC 9068, RFC 8725): an issuer's signature, an audience, a time.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use moka::sync::Cache;
use serde_json::Value;

use crate::{
    call::{Identity, Token, clock},
    config::JwtAuth,
};

use super::{
    AuthContext, AuthError, AuthRefusal,
    claims::{self, digest},
    context::Reach,
    keyring::{Keyring, NoKey},
};

/// Types that an access token calls itself (RFC 9068 §2.1), and that most issuers still write.
const TYPES: [&str; 3] = ["JWT", "at+jwt", "application/at+jwt"];

/// The tokens of one issuer.
pub struct Tokens {
    name: String,
    settings: JwtAuth,
    algorithms: Vec<Algorithm>,
    keyring: Arc<Keyring>,
    good: Cache<[u8; 32], Good>,
}

#[derive(Clone)]
struct Good {
    identity: Arc<Identity>,
    /// Seconds since 1970, with the leeway.
    until: u64,
}

impl Tokens {
    pub fn new(name: &str, settings: &JwtAuth, means: &AuthContext) -> Arc<Self> {
        let algorithms = settings.algorithms.iter().filter_map(|name| name.parse().ok());
        let capacity = settings.tokens.tokens_max.try_into().unwrap_or(u64::MAX);
        Arc::new(Self {
            name: name.to_owned(),
            settings: settings.clone(),
            algorithms: algorithms.collect(),
            keyring: Keyring::new(settings, means),
            good: Cache::builder()
                .max_capacity(capacity)
                .time_to_live(settings.tokens.remember)
                .build(),
        })
    }

    /// Looks for the issuer before the first token comes; see [`Keyring::begin`].
    pub fn begin(&self) {
        self.keyring.begin();
    }

    /// Returns why the issuer's keys could not be fetched the last time; none where they could.
    pub fn fault(&self) -> Option<String> {
        self.keyring.fault()
    }

    /// Returns whose token it is, where that is known of late. `resource` is its audience, where
    /// the configuration names no other.
    pub fn known(&self, token: &str, resource: &str) -> Option<Arc<Identity>> {
        let now = clock::unix_seconds();
        let good = self.good.get(&digest(token, resource)).filter(|good| now < good.until);
        good.map(|good| good.identity)
    }

    /// Returns whose token it is; its issuer is asked for keys as far as `reach` says.
    ///
    /// # Errors
    /// [`AuthRefusal::Foreign`] where the token is of another issuer or no JWT, or where its keys
    /// are out of `reach`; else why it is not valid, or that the issuer does not answer.
    pub async fn identify(
        &self,
        token: &str,
        resource: &str,
        reach: Reach<'_>,
    ) -> Result<Arc<Identity>, AuthRefusal> {
        if self.settings.tokens.token_bytes_max < token.len() {
            return invalid("the token is too long");
        }
        let _turn = match reach {
            Reach::Anywhere => None,
            Reach::Here(logins) => Some(logins.turn().await.ok_or(AuthRefusal::Foreign)?),
        };
        let good = self.verify(token, resource, reach).await?;
        self.good.insert(digest(token, resource), good.clone());
        Ok(good.identity)
    }

    async fn verify(
        &self,
        token: &str,
        resource: &str,
        reach: Reach<'_>,
    ) -> Result<Good, AuthRefusal> {
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            // An opaque token is somebody else's; an unknown algorithm, `none` above all, nobody's.
            return Err(AuthRefusal::Foreign);
        };
        let claimed = jsonwebtoken::dangerous::insecure_decode_claims::<Value>(token);
        let Ok(claimed) = claimed else { return invalid("the token has no claims") };
        if claimed.get("iss").and_then(Value::as_str) != Some(&self.settings.issuer) {
            return Err(AuthRefusal::Foreign);
        }
        if !self.algorithms.contains(&header.alg) {
            return invalid("the token is signed by an algorithm that is not taken here");
        }
        let kind = header.typ.as_deref().unwrap_or("JWT");
        if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind)) {
            return invalid("the token is of another type than access tokens are");
        }
        if header.crit.is_some() {
            return invalid("the token has a critical header that is not known here");
        }
        let keys = match reach {
            Reach::Anywhere => self.keyring.find(header.kid.as_deref(), header.alg).await,
            Reach::Here(_) => self.keyring.find_known(header.kid.as_deref(), header.alg),
        };
        let keys = keys.map_err(|none| match none {
            NoKey::Unknown => AuthRefusal::Error(AuthError::Invalid(
                "the token is signed with a key that its issuer does not have",
            )),
            NoKey::Unavailable => AuthRefusal::Error(AuthError::Unavailable),
        })?;
        let validation = self.validation(header.alg, resource);
        let mut error = ErrorKind::InvalidSignature;
        for key in keys {
            match jsonwebtoken::decode::<Value>(token, &key.decoding, &validation) {
                Ok(verified) => return self.good(token, &verified.claims),
                // The token may be of another key.
                Err(other) if *other.kind() == ErrorKind::InvalidSignature => (),
                Err(other) => error = other.into_kind(),
            }
        }
        // Its signature is good: nobody guesses such a one.
        if error == ErrorKind::ExpiredSignature {
            return Err(AuthRefusal::Error(AuthError::Expired("the token has expired")));
        }
        invalid(in_words(&error))
    }

    fn validation(&self, algorithm: Algorithm, resource: &str) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.settings.tokens.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.settings.issuer]);
        match &self.settings.tokens.audiences[..] {
            [] => validation.set_audience(&[resource]),
            named => validation.set_audience(named),
        }
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    fn good(&self, token: &str, claims: &Value) -> Result<Good, AuthRefusal> {
        let tokens = &self.settings.tokens;
        let expires = claims::seconds(claims, "exp").unwrap_or_default();
        let until = expires.saturating_add(self.settings.tokens.leeway.as_secs());
        let Some(identity) = claims::identity(claims, &tokens.subject_claim, &tokens.groups_claim)
        else {
            return invalid("the token does not say whose it is");
        };
        let identity = Identity {
            authority: self.name.clone(),
            issuer: self.settings.issuer.clone(),
            expires: Some(until),
            token: Some(Token::new(token)),
            ..identity
        };
        Ok(Good { identity: Arc::new(identity), until })
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("name", &self.name).finish_non_exhaustive()
    }
}

fn invalid<T>(why: &'static str) -> Result<T, AuthRefusal> {
    Err(AuthRefusal::Error(AuthError::Invalid(why)))
}

/// Names an error, in words that a stranger may read.
#[allow(clippy::wildcard_enum_match_arm, reason = "all others are a token that is none")]
fn in_words(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks `exp`, `iss` or `aud`",
        _ => "the token cannot be read",
    }
}
