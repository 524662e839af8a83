//! The public keys of one issuer: fetched once for all who wait, kept while it is down, fetched
//! again when a token names one that is not there.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{Jwk, PublicKeyUse},
};
use parking_lot::RwLock;
use serde::{Deserialize, de::IgnoredAny};
use tokio::{sync::Mutex, time::Instant};

use crate::{
    config::{Fetching, JwtAuth},
    net::FetchError,
    telemetry::Counter,
};

use super::{AuthContext, client::Metadata};

/// The shortest pause between two attempts at an issuer that is away.
const WATCH_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The keys of one issuer, and how to get them.
pub struct Keyring {
    issuer: String,
    jwks_url: Option<String>,
    refresh: Duration,
    stale: Duration,
    bounds: Fetching,
    /// Time between two fetches.
    pause: Duration,
    keys_max: usize,
    tries_max: usize,
    means: AuthContext,
    known: RwLock<Option<Arc<Known>>>,
    /// The lock that is held while they are fetched; the last attempt.
    fetching: Mutex<Option<Instant>>,
    /// Why the last attempt brought none; none where it brought some.
    fault: RwLock<Option<String>>,
}

/// Keys that the issuer had, and when.
struct Known {
    keys: Vec<Arc<VerificationKey>>,
    fetched: Instant,
}

/// A public key.
pub struct VerificationKey {
    id: Option<String>,
    /// The only algorithm it is for, if it says so.
    algorithm: Option<Algorithm>,
    pub decoding: DecodingKey,
}

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoKey {
    /// The issuer has none of this id, or none that fits.
    Unknown,
    /// The issuer is out of reach, and what it had before is too old, or nothing.
    Unavailable,
}

impl Keyring {
    pub fn new(settings: &JwtAuth, means: &AuthContext) -> Arc<Self> {
        Arc::new(Self {
            issuer: settings.issuer.clone(),
            jwks_url: settings.jwks_url.clone(),
            refresh: settings.refresh,
            stale: settings.stale,
            bounds: settings.fetching,
            pause: settings.pause,
            keys_max: settings.keys_max,
            tries_max: settings.tries_max,
            means: means.clone(),
            known: RwLock::default(),
            fetching: Mutex::default(),
            fault: RwLock::default(),
        })
    }

    /// Looks for the issuer before the first token comes, and again and again while the keys cannot
    /// be had, so that an issuer that is away is known of, and known of no longer than it is. Ends
    /// with the keyring.
    pub fn begin(self: &Arc<Self>) {
        let keyring = Arc::downgrade(self);
        let pause = self.pause.max(WATCH_PAUSE_MIN);
        self.means.tasks.spawn("auth: watch an issuer", async move {
            if let Some(keyring) = keyring.upgrade() {
                keyring.look_for_issuer().await;
            }
            loop {
                tokio::time::sleep(pause).await;
                match keyring.upgrade() {
                    Some(keyring) => keyring.retry().await,
                    None => return,
                }
            }
        });
    }

    /// Fetches the keys where they could not be fetched the last time.
    async fn retry(&self) {
        if self.fault().is_some() {
            // The moment is not noted: a login makes an attempt of its own.
            let _last = self.fetching.lock().await;
            self.attempt().await;
        }
    }

    /// Asks the issuer where its keys are, and leaves them to the first token.
    async fn look_for_issuer(&self) {
        let asked = async {
            match &self.jwks_url {
                Some(url) => self.means.net.get::<IgnoredAny>(url, &self.bounds).await.map(drop),
                None => self.discover().await.map(drop).map_err(FetchError::Answer),
            }
        };
        let patience = self.bounds.timeout;
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(())) => (),
            Ok(Err(error)) => self.failed(&error.to_string()),
            Err(_) => self.failed(&silent(patience)),
        }
    }

    /// Returns why the keys could not be fetched the last time; none where they could.
    pub fn fault(&self) -> Option<String> {
        self.fault.read().clone()
    }

    /// Keys that a signature of this algorithm may have been made with: that of the id, or without
    /// an id the first few that fit.
    ///
    /// # Errors
    /// Fails where no key fits, or where the issuer has never been reached.
    pub async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<VerificationKey>>, NoKey> {
        let known = self.current().await?;
        let found = known.fitting(id, algorithm, self.tries_max);
        if !found.is_empty() {
            return Ok(found);
        }
        // The issuer may have a new one.
        self.fetch(Some(known.fetched)).await;
        let known = self.known.read().clone().ok_or(NoKey::Unavailable)?;
        let found = known.fitting(id, algorithm, self.tries_max);
        if found.is_empty() { Err(NoKey::Unknown) } else { Ok(found) }
    }

    /// Finds a key among those that are known already.
    ///
    /// # Errors
    /// Fails where no known key fits, or where none is known that is fresh enough.
    pub fn find_known(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Vec<Arc<VerificationKey>>, NoKey> {
        let known = self.known.read().clone();
        let known = known.filter(|known| known.fetched.elapsed() <= self.stale);
        let known = known.ok_or(NoKey::Unavailable)?;
        if self.refresh < known.fetched.elapsed() {
            self.refresh_aside(known.fetched);
        }
        let found = known.fitting(id, algorithm, self.tries_max);
        if found.is_empty() { Err(NoKey::Unknown) } else { Ok(found) }
    }

    /// The known keys, as long as they may be used; fetched behind the caller's back when they are
    /// old.
    async fn current(self: &Arc<Self>) -> Result<Arc<Known>, NoKey> {
        let known = self.known.read().clone();
        let age = known.as_ref().map(|known| known.fetched.elapsed());
        match (known, age) {
            (Some(known), Some(age)) if age <= self.refresh => return Ok(known),
            (Some(known), Some(age)) if age <= self.stale => {
                self.refresh_aside(known.fetched);
                return Ok(known);
            }
            (known, _) => self.fetch(known.map(|known| known.fetched)).await,
        }
        let known = self.known.read().clone();
        known.filter(|known| known.fetched.elapsed() <= self.stale).ok_or(NoKey::Unavailable)
    }

    /// Fetches them behind the callers' backs; whoever fetches already does it for all.
    fn refresh_aside(self: &Arc<Self>, seen: Instant) {
        if self.fetching.try_lock().is_ok_and(|last| !self.is_too_soon(*last)) {
            let keyring = Arc::clone(self);
            let fetching = async move { keyring.fetch(Some(seen)).await };
            self.means.tasks.spawn("auth: keys of an issuer", fetching);
        }
    }

    /// Fetches what is newer than `seen`, unless somebody else just did, or tried. Waits for its
    /// turn no longer than one attempt takes.
    async fn fetch(&self, seen: Option<Instant>) {
        let locked = tokio::time::timeout(self.bounds.timeout, self.fetching.lock()).await;
        let Ok(mut last) = locked else { return };
        let newest = self.known.read().as_ref().map(|known| known.fetched);
        if newest != seen || self.is_too_soon(*last) {
            return;
        }
        self.attempt().await;
        *last = Some(Instant::now());
    }

    fn is_too_soon(&self, last: Option<Instant>) -> bool {
        last.is_some_and(|last| last.elapsed() < self.pause)
    }

    async fn attempt(&self) {
        let patience = self.bounds.timeout;
        match tokio::time::timeout(patience, self.read()).await {
            Ok(Ok(keys)) => {
                self.means.counters.add(Counter::KeysFetched);
                if self.fault.write().take().is_some() {
                    tracing::info!(issuer = self.issuer, "the keys of an issuer are read again");
                }
                let known = Known { keys, fetched: Instant::now() };
                *self.known.write() = Some(Arc::new(known));
            }
            Ok(Err(error)) => self.failed(&error),
            Err(_) => self.failed(&silent(patience)),
        }
    }

    fn failed(&self, error: &str) {
        self.means.counters.add(Counter::KeysFailed);
        let before = self.fault.write().replace(error.to_owned());
        if before.is_none_or(|before| before != error) {
            tracing::warn!(issuer = self.issuer, error, "the keys of an issuer were not read");
        }
    }

    async fn read(&self) -> Result<Vec<Arc<VerificationKey>>, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        let set: Set = self.means.net.get(&url, &self.bounds).await?;
        if self.keys_max < set.keys.len() {
            let count = set.keys.len();
            let max = self.keys_max;
            return Err(format!("{url} has {count} keys, more than {max} (`keys_max`)"));
        }
        // A key of a kind that is not known here must not cost the others.
        let keys: Vec<_> =
            set.keys.into_iter().filter_map(VerificationKey::read).map(Arc::new).collect();
        if keys.is_empty() { Err(format!("{url} has no key that can be used")) } else { Ok(keys) }
    }

    async fn discover(&self) -> Result<String, String> {
        let metadata = Metadata::of(&self.issuer, &self.means.net, &self.bounds).await?;
        if metadata.issuer != self.issuer {
            return Err(format!("the metadata is that of `{}`", metadata.issuer));
        }
        metadata.jwks_uri.ok_or_else(|| "the metadata names no `jwks_uri`".to_owned())
    }
}

fn silent(patience: Duration) -> String {
    format!("no answer within {patience:?} (`fetch_timeout`)")
}

impl Known {
    fn fitting(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        tries_max: usize,
    ) -> Vec<Arc<VerificationKey>> {
        let fits = |key: &&Arc<VerificationKey>| {
            key.algorithm.is_none_or(|own| own == algorithm)
                && key.decoding.family() == algorithm.family()
                && (id.is_none() || key.id.as_deref() == id)
        };
        self.keys.iter().filter(fits).take(tries_max).cloned().collect()
    }
}

impl VerificationKey {
    /// None for a key of an unknown kind, one that is no public key, and one for encryption.
    fn read(jwk: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(jwk).ok()?;
        let of = jwk.common.public_key_use.as_ref();
        let signs = of.is_none_or(|of| *of == PublicKeyUse::Signature);
        let algorithm = match jwk.common.key_algorithm {
            Some(own) => Some(own.to_string().parse().ok()?),
            None => None,
        };
        let decoding = DecodingKey::from_jwk(&jwk).ok().filter(|_| signs)?;
        // A shared secret has no place among public keys.
        let public = decoding.family() != jsonwebtoken::AlgorithmFamily::Hmac;
        public.then_some(Self { id: jwk.common.key_id, algorithm, decoding })
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
