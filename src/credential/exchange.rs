//! A caller's token exchanged for one that is for this upstream (RFC 8693): once for all calls of
//! that caller, and kept until it expires. No caller's is ever another's.

use std::sync::Arc;

use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::{
    call::Token as Bearer, config::Exchange as Settings, net::flight::Flights, telemetry::Counter,
};

use super::{client::OAuthClient, token::FetchedToken};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The digest of a caller's token, by which what it was exchanged for is kept.
type Key = [u8; 32];

/// The tokens of one upstream's callers.
#[derive(Debug)]
pub struct TokenExchange {
    /// The client whose own token goes with what the gate itself sends.
    own: Arc<OAuthClient>,
    kept: Cache<Key, FetchedToken>,
    /// Exchanges that failed of late, and why.
    failed: Cache<Key, String>,
    flights: Flights<Key, Result<FetchedToken, String>>,
}

impl TokenExchange {
    pub fn new(settings: &Settings, own: Arc<OAuthClient>) -> Arc<Self> {
        let max = settings.tokens_max.try_into().unwrap_or(u64::MAX);
        let pause = settings.grant.pause;
        Arc::new(Self {
            own,
            kept: Cache::new(max),
            failed: Cache::builder().max_capacity(max).time_to_live(pause).build(),
            flights: Flights::default(),
        })
    }

    /// The token of a caller, or the gate's own.
    ///
    /// # Errors
    /// Why there is none. It names no secret.
    pub async fn token(&self, whose: Option<&Bearer>) -> Result<FetchedToken, String> {
        let Some(bearer) = whose else { return self.own.token().await };
        let key = Sha256::digest(bearer.expose()).into();
        match self.good(&key) {
            Some(token) => Ok(token),
            None => self.fetch(key, bearer, false).await,
        }
    }

    /// The upstream did not take this one: another. None where that would be refused, too, or
    /// cannot be had.
    pub async fn instead_of(
        &self,
        refused: &FetchedToken,
        whose: Option<&Bearer>,
    ) -> Option<FetchedToken> {
        let Some(bearer) = whose else { return self.own.instead_of(refused).await };
        let key = Sha256::digest(bearer.expose()).into();
        if let Some(token) = self.good(&key).filter(|token| !token.is(refused)) {
            return Some(token);
        }
        let pause = self.own.server.settings.refused_pause;
        if refused.replaces && refused.fetched.elapsed() < pause {
            return None;
        }
        self.kept.invalidate(&key);
        self.fetch(key, bearer, true).await.ok()
    }

    fn good(&self, key: &Key) -> Option<FetchedToken> {
        self.kept.get(key).filter(|token| Instant::now() < token.expires)
    }

    async fn fetch(
        &self,
        key: Key,
        bearer: &Bearer,
        replaces: bool,
    ) -> Result<FetchedToken, String> {
        if let Some(why) = self.failed.get(&key) {
            return Err(why);
        }
        let grant = vec![
            ("grant_type", GRANT_TYPE.to_owned()),
            ("subject_token", bearer.expose().to_owned()),
            ("subject_token_type", ACCESS_TOKEN.to_owned()),
            ("requested_token_type", ACCESS_TOKEN.to_owned()),
        ];
        let fetching = async {
            let granted = self.own.server.grant(grant, replaces).await;
            match &granted {
                Ok(token) => {
                    self.own.server.counters.add(Counter::TokensExchanged);
                    self.kept.insert(key, token.clone());
                }
                Err(why) => self.failed.insert(key, why.clone()),
            }
            granted
        };
        // Boxed: a request is large.
        self.flights.join(key, Box::pin(fetching)).await
    }
}
