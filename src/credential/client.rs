//! The gate's own access token for an upstream (OAuth 2.0 client credentials, RFC 6749 §4.4): one
//! for all callers, fetched once, renewed before it expires.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::{sync::Mutex, time::Instant};

use crate::{call::tasks::Tasks, config::Grant, net::Net, telemetry::Counters};

use super::{server::Server, token::FetchedToken};

/// The gate as a client of the upstream's authorization server.
#[derive(Debug)]
pub struct OAuthClient {
    pub server: Server,
    tasks: Tasks,
    token: RwLock<Option<FetchedToken>>,
    /// The lock that is held while one is fetched; the last failure.
    fetching: Mutex<Option<(Instant, String)>>,
}

impl OAuthClient {
    pub fn new(
        name: &str,
        url: &str,
        settings: &Grant,
        net: &Net,
        counters: &Arc<Counters>,
        tasks: &Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            server: Server::new(name, url, settings, net, counters),
            tasks: tasks.clone(),
            token: RwLock::default(),
            fetching: Mutex::default(),
        })
    }

    /// The token of now; waits where there is none yet, or none any more.
    ///
    /// # Errors
    /// Why there is none. It names no secret.
    pub async fn token(self: &Arc<Self>) -> Result<FetchedToken, String> {
        let now = Instant::now();
        let known = self.token.read().clone();
        let Some(token) = known.filter(|token| now < token.expires) else {
            return self.fetch(None).await;
        };
        // A call that fetches one already does it for all.
        if token.renew <= now && self.fetching.try_lock().is_ok() {
            let itself = Arc::clone(self);
            let seen = token.clone();
            // The one that is there is good: a failure is seen by the next who needs one.
            let renewing = async move { drop(itself.fetch(Some(&seen)).await) };
            self.tasks.spawn("upstream: token", renewing);
        }
        Ok(token)
    }

    /// The upstream did not take this token: another one. None where that would be refused, too,
    /// or cannot be had.
    pub async fn instead_of(&self, refused: &FetchedToken) -> Option<FetchedToken> {
        let known = self.token.read().clone();
        let newest = known.is_none_or(|known| known.is(refused));
        let pause = self.server.settings.refused_pause;
        if newest && refused.replaces && refused.fetched.elapsed() < pause {
            return None;
        }
        self.fetch(Some(refused)).await.ok()
    }

    /// A token other than the one seen: another caller's, where that came first.
    async fn fetch(&self, seen: Option<&FetchedToken>) -> Result<FetchedToken, String> {
        let mut failed = self.fetching.lock().await;
        let known = self.token.read().clone();
        let new = |token: &FetchedToken| seen.is_none_or(|seen| !seen.is(token));
        if let Some(token) = known.filter(|token| new(token) && Instant::now() < token.expires) {
            return Ok(token);
        }
        let pause = self.server.settings.pause;
        if let Some((at, why)) = failed.as_ref().filter(|(at, _)| at.elapsed() < pause) {
            tracing::trace!(?at, "no token is asked for so soon after a failure");
            return Err(why.clone());
        }
        let grant = vec![("grant_type", "client_credentials".to_owned())];
        match self.server.grant(grant, seen.is_some()).await {
            Ok(token) => {
                *failed = None;
                *self.token.write() = Some(token.clone());
                Ok(token)
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}
