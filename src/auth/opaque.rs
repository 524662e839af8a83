//! Access tokens that only their issuer can read: it is asked about each (RFC 7662), once for all
//! who come with it, and remembered for a short time.

use std::{sync::Arc, time::Duration};

use moka::sync::Cache;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    call::{Identity, Token, clock},
    config::OpaqueAuth,
    net::{FetchError, flight::Flights},
    telemetry::{Counter, throttle},
};

use super::{
    AuthContext, AuthError, AuthRefusal,
    claims::{self, digest},
    client,
};

/// A token that was good and that nobody came with for so long is as good as any other.
const GOOD_IDLE: Duration = Duration::from_secs(60 * 60);

/// How long a question that was asked in vain is told of, where nobody comes with a token.
const FAULT_SHOWN: Duration = Duration::from_secs(5 * 60);

/// The tokens of one issuer.
pub struct Opaque {
    name: String,
    settings: OpaqueAuth,
    means: AuthContext,
    known: Cache<[u8; 32], Known>,
    /// Tokens that were good: to ask about one again is no guess.
    good: Cache<[u8; 32], ()>,
    flights: Flights<[u8; 32], Known>,
    /// The room for questions under way.
    places: Semaphore,
    /// When the issuer last gave no answer.
    silent: Mutex<Option<Instant>>,
    /// When it was asked in vain the last time, and why that was; none once it has answered.
    fault: Mutex<Option<Fault>>,
}

/// A question that was asked in vain.
#[derive(Debug)]
struct Fault {
    at: Instant,
    why: String,
}

/// Outcome of a question.
#[derive(Debug, Clone)]
struct Known {
    outcome: Result<Arc<Identity>, AuthError>,
    /// The time until which it is not asked again.
    until: Instant,
}

impl Opaque {
    pub fn new(name: &str, settings: &OpaqueAuth, means: &AuthContext) -> Arc<Self> {
        let capacity = settings.tokens.tokens_max.try_into().unwrap_or(u64::MAX);
        let kept =
            settings.tokens.remember.max(settings.remember_refused).max(Duration::from_millis(1));
        Arc::new(Self {
            name: name.to_owned(),
            settings: settings.clone(),
            means: means.clone(),
            known: Cache::builder().max_capacity(capacity).time_to_live(kept).build(),
            good: Cache::builder().max_capacity(capacity).time_to_idle(GOOD_IDLE).build(),
            flights: Flights::default(),
            places: Semaphore::new(settings.asked_max),
            silent: Mutex::default(),
            fault: Mutex::default(),
        })
    }

    /// Returns whose token it is, where that is known of late.
    pub fn known(&self, token: &str, resource: &str) -> Option<Arc<Identity>> {
        self.fresh(&digest(token, resource)).and_then(|known| known.outcome.ok())
    }

    /// Returns why the issuer was asked in vain the last time. It is asked about tokens only, so
    /// that this is told for [`FAULT_SHOWN`] and no longer.
    pub fn fault(&self) -> Option<String> {
        let fault = self.fault.lock();
        fault.as_ref().filter(|one| one.at.elapsed() < FAULT_SHOWN).map(|one| one.why.clone())
    }

    /// Whether a token was good when its issuer was asked last.
    pub fn was_good(&self, token: &str, resource: &str) -> bool {
        self.good.contains_key(&digest(token, resource))
    }

    /// Returns whose token it is.
    ///
    /// # Errors
    /// Fails where the token is malformed, where its issuer says that it is not active, or where
    /// the issuer does not answer.
    pub async fn identify(
        &self,
        token: &str,
        resource: &str,
    ) -> Result<Arc<Identity>, AuthRefusal> {
        if self.settings.tokens.token_bytes_max < token.len() || !token.bytes().all(is_of_token) {
            return Err(AuthRefusal::Error(AuthError::Invalid("the token is none, or too long")));
        }
        let key = digest(token, resource);
        let known = match self.fresh(&key) {
            Some(known) => known,
            // Boxed: a request is large.
            None => self.flights.join(key, Box::pin(self.ask(key, token, resource))).await,
        };
        known.outcome.map_err(AuthRefusal::Error)
    }

    fn fresh(&self, key: &[u8; 32]) -> Option<Known> {
        let now = clock::unix_seconds();
        let lives = |identity: &Arc<Identity>| identity.expires.is_none_or(|until| now < until);
        self.known.get(key).filter(|known| {
            Instant::now() < known.until && known.outcome.as_ref().map_or(true, lives)
        })
    }

    async fn ask(&self, key: [u8; 32], token: &str, resource: &str) -> Known {
        let patience = self.settings.fetching.timeout;
        let pause = self.settings.pause;
        if self.silent.lock().is_some_and(|at| at.elapsed() < pause) {
            return Known::unavailable();
        }
        let asking = async {
            // Never closed.
            let _place = self.places.acquire().await;
            self.introspect(token).await
        };
        let silence =
            || FetchError::Lost(format!("no answer within {patience:?} (`fetch_timeout`)"));
        let answered = tokio::time::timeout(patience, asking).await;
        self.means.counters.add(Counter::Introspections);
        let outcome = match answered.unwrap_or_else(|_| Err(silence())) {
            Ok(claims) => {
                self.fault.lock().take();
                self.judge(&claims, token, resource)
            }
            Err(error) => {
                self.means.counters.add(Counter::IntrospectionsFailed);
                let authority = &self.name;
                throttle::line(("introspection", authority), |more| {
                    tracing::warn!(authority, %error, more, "an issuer was asked in vain");
                });
                *self.fault.lock() = Some(Fault { at: Instant::now(), why: error.to_string() });
                if matches!(error, FetchError::Lost(_)) {
                    *self.silent.lock() = Some(Instant::now());
                }
                return Known::unavailable();
            }
        };
        let kept = match &outcome {
            Ok(_) => self.settings.tokens.remember,
            Err(_) => self.settings.remember_refused,
        };
        match &outcome {
            Ok(_) => self.good.insert(key, ()),
            Err(_) => self.good.invalidate(&key),
        }
        let known = Known { outcome, until: Instant::now() + kept };
        self.known.insert(key, known.clone());
        known
    }

    async fn introspect(&self, token: &str) -> Result<Value, FetchError> {
        let url = &self.settings.url;
        let fields =
            vec![("token", token.to_owned()), ("token_type_hint", "access_token".to_owned())];
        let form = client::form(url, fields, &self.settings.client, url);
        let form = form.map_err(FetchError::Answer)?;
        self.means.net.fetch(form, &self.settings.fetching).await
    }

    /// RFC 7662 §2.2: that it is active says that it is good; what it is good for is checked here.
    fn judge(&self, said: &Value, token: &str, resource: &str) -> Result<Arc<Identity>, AuthError> {
        let now = clock::unix_seconds();
        let leeway = self.settings.tokens.leeway.as_secs();
        let text = |name| said.get(name).and_then(Value::as_str);
        if said.get("active") != Some(&Value::Bool(true)) {
            return Err(AuthError::Invalid("the token is not active"));
        }
        let other_kind = text("token_type").is_some_and(|kind| {
            !["bearer", "access_token"].iter().any(|known| kind.eq_ignore_ascii_case(known))
        });
        if other_kind || text("token_use").is_some_and(|used| used == "refresh_token") {
            return Err(AuthError::Invalid("the token is of another type than access tokens are"));
        }
        let issuers = self.settings.issuer.as_deref().zip(text("iss"));
        if issuers.is_some_and(|(wanted, said)| wanted != said) {
            return Err(AuthError::Invalid("the token is of another issuer"));
        }
        let expires = claims::seconds(said, "exp").map(|exp| exp.saturating_add(leeway));
        if said.get("exp").is_some() && expires.is_none_or(|expires| expires <= now) {
            return Err(AuthError::Invalid("the token has expired"));
        }
        if claims::seconds(said, "nbf").is_some_and(|nbf| now.saturating_add(leeway) < nbf) {
            return Err(AuthError::Invalid("the token is not valid yet"));
        }
        let audiences: Vec<_> = match &self.settings.tokens.audiences[..] {
            [] => vec![resource],
            named => named.iter().map(String::as_str).collect(),
        };
        if !claims::is_for(said, &audiences) {
            return Err(AuthError::Invalid("the token is for another audience"));
        }
        let tokens = &self.settings.tokens;
        let identity = claims::identity(said, &tokens.subject_claim, &tokens.groups_claim);
        let identity = identity.ok_or(AuthError::Invalid("the token does not say whose it is"))?;
        Ok(Arc::new(Identity {
            authority: self.name.clone(),
            issuer: text("iss").or(self.settings.issuer.as_deref()).unwrap_or_default().to_owned(),
            expires,
            token: Some(Token::new(token)),
            ..identity
        }))
    }
}

impl Known {
    /// Makes the answer for those who wait; it is asked again by the next.
    fn unavailable() -> Self {
        Self { outcome: Err(AuthError::Unavailable), until: Instant::now() }
    }
}

/// RFC 6750 §2.1: what else there is cannot be a token, and need not be asked about.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte)
}

impl std::fmt::Debug for Opaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opaque").field("name", &self.name).finish_non_exhaustive()
    }
}
