//! Credentials that an upstream is shown in `Authorization`: the gate's own token ([`client`]), the
//! caller's exchanged for one of this upstream ([`exchange`]), the caller's itself, or a signature
//! ([`aws`]).
//!
//! A request for no caller (lists, the opening of what all share) is never shown a caller's.

mod aws;
mod client;
mod exchange;
mod server;
mod token;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};

use crate::{
    call::{
        Token as Bearer,
        spans::{CallSpans, Stage},
        tasks::Tasks,
    },
    config::{Credential as Settings, Transport, Upstream},
    net::{Answer, Net, NetError, SendOptions},
    telemetry::Counters,
};

pub use self::server::issuers_of;
use self::{aws::Aws, client::OAuthClient, exchange::TokenExchange};

/// The credential of one upstream. A clone is the same one.
#[derive(Debug, Clone)]
pub enum Credential {
    Client(Arc<OAuthClient>),
    Exchange(Arc<TokenExchange>),
    Pass,
    Aws(Arc<Aws>),
}

impl Credential {
    /// Makes the credential of an upstream; none where its configuration has none.
    pub fn of(
        config: &Upstream,
        net: &Net,
        counters: &Arc<Counters>,
        tasks: &Tasks,
    ) -> Option<Self> {
        let Transport::Http { url, credential: Some(settings), .. } = &config.transport else {
            return None;
        };
        let client = |grant| OAuthClient::new(&config.name, url, grant, net, counters, tasks);
        Some(match settings {
            Settings::Client(grant) => Self::Client(client(grant)),
            Settings::Exchange(settings) => {
                let own = client(&settings.grant);
                Self::Exchange(TokenExchange::new(settings, own))
            }
            Settings::Pass => Self::Pass,
            Settings::Aws(keys) => Self::Aws(Arc::new(Aws::new(keys))),
        })
    }

    /// Whether it says who the caller is, so that what it opens is that caller's alone.
    pub fn is_callers(&self) -> bool {
        matches!(self, Self::Exchange(_) | Self::Pass)
    }

    /// Sends a request in the name of this caller, or of the gate itself. One whose token is
    /// refused was not processed: it is sent once more with another, where one can be had.
    ///
    /// # Errors
    /// Where no credential could be had for it, or it is not sent.
    pub async fn send(
        &self,
        net: &Net,
        mut request: Request<Bytes>,
        way: SendOptions<'_>,
        whose: Option<&Bearer>,
        spans: Option<&Arc<CallSpans>>,
    ) -> Result<Answer, NetError> {
        let fetching = || spans?.stage(Stage::Credential);
        let stage = fetching();
        let token = match self {
            Self::Pass => {
                if let Some(bearer) = whose {
                    let value = token::value(bearer.expose()).map_err(unsent)?;
                    request.headers_mut().insert(header::AUTHORIZATION, value);
                }
                return net.send(request, way).await;
            }
            Self::Aws(keys) => {
                keys.sign(&mut request).map_err(unsent)?;
                return net.send(request, way).await;
            }
            Self::Client(client) => client.token().await,
            Self::Exchange(exchange) => exchange.token(whose).await,
        };
        let token = token.map_err(unsent)?;
        drop(stage);
        request.headers_mut().insert(header::AUTHORIZATION, token.value());
        let mut again = request.clone();
        let response = net.send(request, way).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let stage = fetching();
        let other = match self {
            Self::Client(client) => client.instead_of(&token).await,
            Self::Exchange(exchange) => exchange.instead_of(&token, whose).await,
            Self::Pass | Self::Aws(_) => None,
        };
        drop(stage);
        let Some(token) = other else { return Ok(response) };
        again.headers_mut().insert(header::AUTHORIZATION, token.value());
        net.send(again, way).await
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn unsent(why: String) -> NetError {
    NetError::Unsent(format!("no credential could be had: {why}"))
}
