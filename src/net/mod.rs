//! Dialling out: pooled HTTP/1.1 and HTTP/2 connections to upstreams, TLS included; small documents
//! ([`fetch`]), what is fetched once for all who want it ([`flight`]), and the secrets that a Vault
//! keeps.

mod fetch;
pub mod flight;
pub mod vault;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

pub use self::fetch::FetchError;

/// A TCP connection that is not there after this long will not come; the upstream's own deadline
/// may be longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections are given up a little before common servers do (Node and uvicorn: 5 s): a
/// request that meets the end of its connection is lost, and nobody knows what became of it.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// A server that vanished without a word, behind a stream that it is to speak on, is noticed after
/// this much silence and as many probes.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_PROBES: u32 = 3;

/// One pool for all upstreams; a clone shares it. Connections are pooled, MCP sessions never are.
#[derive(Clone, Debug)]
pub struct Net {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    agreed: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// HTTP/2 in clear text, by prior knowledge.
    h2c: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Nothing was sent: it is safe to try again.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Nothing was sent, for a reason of the sender's own.
    #[error("{0}")]
    Unsent(String),
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl Net {
    /// A system without certificates is no error before some upstream needs one.
    pub fn new() -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the cipher suites of TLS 1.2 and 1.3");
        let tls = match tls.clone().with_native_roots() {
            Ok(tls) => tls,
            Err(error) => {
                tracing::warn!(%error, "no certificate is trusted: https upstreams will fail");
                tls.with_root_certificates(rustls::RootCertStore::empty())
            }
        };
        let tls = tls.with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
        tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        let connector = connector.enable_all_versions().wrap_connector(tcp);
        let pool = |h2c: bool| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(POOL_IDLE)
                .http2_only(h2c)
                .build(connector.clone())
        };
        Self { agreed: pool(false), h2c: pool(true) }
    }

    /// Sends one request. A pooled connection that proves stale before a byte was sent is redialled
    /// once.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        h2c: bool,
    ) -> Result<Response<Incoming>, NetError> {
        let pool = if h2c { &self.h2c } else { &self.agreed };
        pool.request(request).await.map_err(|error| {
            let text = causes(&error);
            if error.is_connect() { NetError::Connect(text) } else { NetError::Broken(text) }
        })
    }
}

/// An error and what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
