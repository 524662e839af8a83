//! Access tokens that are JWTs (RFC 9068, RFC 8725): an issuer's signature, an audience, a time.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use moka::sync::Cache;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    call::{Identity, clock},
    config::JwtAuth,
    mcp::raw::Raw,
};

use super::{
    AuthError, Means, Refusal,
    keyring::{Keyring, NoKey},
};

/// A token that was found good is taken at its word for so long, and never beyond its `exp`.
const REMEMBERED: Duration = Duration::from_secs(60);

/// What an access token calls itself (RFC 9068 §2.1), and what most issuers still write.
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
    pub fn new(name: &str, settings: &JwtAuth, means: &Means) -> Arc<Self> {
        let algorithms = settings.algorithms.iter().filter_map(|name| name.parse().ok());
        let capacity = settings.tokens_max.try_into().unwrap_or(u64::MAX);
        Arc::new(Self {
            name: name.to_owned(),
            settings: settings.clone(),
            algorithms: algorithms.collect(),
            keyring: Keyring::new(settings, means),
            good: Cache::builder().max_capacity(capacity).time_to_live(REMEMBERED).build(),
        })
    }

    /// Whose token it is. `resource` is its audience, where the configuration names no other.
    pub async fn identify(&self, token: &str, resource: &str) -> Result<Arc<Identity>, Refusal> {
        if self.settings.token_bytes_max < token.len() {
            return invalid("the token is too long");
        }
        let digest = Sha256::new().chain_update(resource).chain_update([0]).chain_update(token);
        let digest: [u8; 32] = digest.finalize().into();
        let now = clock::unix_seconds();
        if let Some(good) = self.good.get(&digest).filter(|good| now < good.until) {
            return Ok(good.identity);
        }
        let good = self.verify(token, resource).await?;
        self.good.insert(digest, good.clone());
        Ok(good.identity)
    }

    async fn verify(&self, token: &str, resource: &str) -> Result<Good, Refusal> {
        let Ok(header) = jsonwebtoken::decode_header(token) else {
            // An opaque token is somebody else's; an unknown algorithm, `none` above all, nobody's.
            return Err(Refusal::Foreign);
        };
        let claimed = jsonwebtoken::dangerous::insecure_decode_claims::<Value>(token);
        let Ok(claimed) = claimed else { return invalid("the token has no claims") };
        if claimed.get("iss").and_then(Value::as_str) != Some(&self.settings.issuer) {
            return Err(Refusal::Foreign);
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
        let keys = self.keyring.find(header.kid.as_deref(), header.alg).await;
        let keys = keys.map_err(|none| match none {
            NoKey::Unknown => Refusal::Error(AuthError::Invalid(
                "the token is signed with a key that its issuer does not have",
            )),
            NoKey::Unavailable => Refusal::Error(AuthError::Unavailable),
        })?;
        let validation = self.validation(header.alg, resource);
        let mut error = ErrorKind::InvalidSignature;
        for key in keys {
            match jsonwebtoken::decode::<Value>(token, &key.decoding, &validation) {
                Ok(verified) => return self.good(&verified.claims),
                // Another key may have made it.
                Err(other) if *other.kind() == ErrorKind::InvalidSignature => (),
                Err(other) => error = other.into_kind(),
            }
        }
        invalid(in_words(&error))
    }

    fn validation(&self, algorithm: Algorithm, resource: &str) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.settings.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.settings.issuer]);
        match &self.settings.audiences[..] {
            [] => validation.set_audience(&[resource]),
            named => validation.set_audience(named),
        }
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    fn good(&self, claims: &Value) -> Result<Good, Refusal> {
        let subject = claim(claims, &self.settings.subject_claim).and_then(Value::as_str);
        let Some(subject) = subject.filter(|subject| !subject.is_empty()) else {
            return invalid("the token does not say whose it is");
        };
        let identity = Identity {
            authority: self.name.clone(),
            issuer: self.settings.issuer.clone(),
            subject: subject.to_owned(),
            groups: groups(claim(claims, &self.settings.groups_claim), &self.settings.groups_claim),
            scopes: words(claims.get("scope").or_else(|| claims.get("scp"))),
            claims: Raw::encode(claims),
        };
        let expires = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let until = (expires.max(0.0) as u64).saturating_add(self.settings.leeway.as_secs());
        Ok(Good { identity: Arc::new(identity), until })
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("name", &self.name).finish_non_exhaustive()
    }
}

fn invalid<T>(why: &'static str) -> Result<T, Refusal> {
    Err(Refusal::Error(AuthError::Invalid(why)))
}

/// A claim of this very name, else one within others, as in `realm_access.roles`.
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |inner, part| inner.get(part)))
}

/// A claim of groups: a list of texts, or one text, which is one group whatever it has within. Only
/// what is written as `scope` is (RFC 8693 §4.2) is one text of several words.
fn groups(found: Option<&Value>, name: &str) -> std::collections::BTreeSet<String> {
    match found {
        Some(Value::String(text)) if !matches!(name, "scope" | "scp") => {
            std::iter::once(text.clone()).filter(|text| !text.is_empty()).collect()
        }
        _ => words(found),
    }
}

/// A claim of several words: a list of texts, or one text with spaces.
fn words(claim: Option<&Value>) -> std::collections::BTreeSet<String> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => std::collections::BTreeSet::new(),
    }
}

/// What a stranger may read of it.
#[allow(clippy::wildcard_enum_match_arm, reason = "all others are a token that is none")]
fn in_words(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidSignature => "the token's signature is wrong",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks `exp`, `iss` or `aud`",
        _ => "the token cannot be read",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_text_is_one_group() {
        let of = |value: Value, name| groups(Some(&value), name).into_iter().collect::<Vec<_>>();
        assert_eq!(of(json!("site admins"), "groups"), ["site admins"]);
        assert_eq!(of(json!(["a b", "c", 1]), "groups"), ["a b", "c"]);
        assert_eq!(of(json!("read write"), "scope"), ["read", "write"]);
        assert_eq!(of(json!(""), "groups"), [""; 0]);
    }
}
