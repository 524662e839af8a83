//! A client of HTTP/1.1 and HTTP/2 with pooled connections, over TLS and proxies.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Uri, header};
use http_body_util::Full;
use hyper::Request;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::config::{Dial, Secret};

use super::{
    answer::{Answer, AnswerBody},
    dial::{CONNECT_TIMEOUT, Dialer},
    error::NetError,
    http1::{Http1Error, RequestText},
    idle::POOL_IDLE,
    live::{ClosedBefore, LiveConnector},
    pool::{Pool, PoolError},
    proxy::ProxyRoute,
    resolver::{Resolver, TcpConnector},
    reuse::Reuse,
    tls_words,
};

/// A server that vanished without a word, behind a stream that it is to speak on, is noticed after
/// this much silence and as many probes.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_PROBES: u32 = 3;

/// A pool of connections; a clone shares it. Connections are pooled, MCP sessions never are.
#[derive(Clone, Debug)]
pub struct Net(Arc<Pools>);

#[derive(Debug)]
struct Pools {
    reused: Clients,
    /// Every request dials.
    fresh: Clients,
    /// Pools for servers that are sent much; of so many replicas as the upstream has.
    pools: Mutex<Vec<Arc<Pool>>>,
    connector: TcpConnector,
    route: Arc<ProxyRoute>,
    tls: ClientConfig,
    reuse: Arc<Reuse>,
}

/// What an answer that is no HTTP most likely means.
const NO_HTTP: &str = "this port speaks no HTTP: is it `https:`, or the port of something else?";

type Sender = Client<LiveConnector, Full<Bytes>>;

/// Clients with pools for any server.
#[derive(Debug)]
struct Clients {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    agreed: Sender,
    /// HTTP/2 in clear text, by prior knowledge.
    h2c: Sender,
}

/// Options of sending one request.
#[derive(Debug, Clone, Copy, Default)]
pub struct SendOptions<'a> {
    /// Speaks HTTP/2 in clear text.
    pub h2c: bool,
    /// The pool for the request's server, where it has one.
    pub pool: Option<&'a Arc<Pool>>,
    /// Dials a connection of its own.
    pub fresh: bool,
}

impl Net {
    /// A system without certificates is no error before some upstream needs one.
    pub fn new() -> Self {
        let tls = match tls_builder().with_native_roots() {
            Ok(tls) => tls,
            Err(error) => {
                tracing::warn!(%error, "no certificate is trusted: https upstreams will fail");
                tls_builder().with_root_certificates(RootCertStore::empty())
            }
        };
        Self::with(&tls.with_no_client_auth(), ProxyRoute::Direct, false)
    }

    /// The client for an upstream. Its connections are its own: those of another one at the same
    /// address may lead to a server that closes them as it likes.
    ///
    /// # Errors
    /// What is wrong with its certificates, key or proxy, in words without a secret.
    pub fn of_upstream(
        &self,
        dial: &Dial,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let proxy = dial.proxy.as_ref().map(Secret::expose);
        let route = ProxyRoute::of(proxy, environment)?;
        let plain = dial.ca.is_none() && dial.identity.is_none();
        if plain && route == ProxyRoute::Direct {
            return Ok(Self::with(&self.0.tls, route, false));
        }
        Ok(Self::with(&tls(dial)?, route, false))
    }

    fn with(tls: &ClientConfig, route: ProxyRoute, is_public_only: bool) -> Self {
        let tcp = tcp(is_public_only);
        let route = Arc::new(route);
        let reuse = Arc::<Reuse>::default();
        // To a proxy, HTTP/1.1 is spoken; it is the configuration's, wherever it is.
        let to_proxy = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        let to_proxy = to_proxy.enable_http1().wrap_connector(self::tcp(false));
        let connector = |h2c: bool| {
            let dialer = Dialer::new(to_proxy.clone(), tcp.clone(), Arc::clone(&route), h2c);
            let connector = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
            let connector = connector.https_or_http().enable_all_versions().wrap_connector(dialer);
            LiveConnector::new(connector, Arc::clone(&reuse))
        };
        let sender = |h2c: bool, fresh: bool| {
            let mut builder = Client::builder(TokioExecutor::new());
            builder.pool_timer(TokioTimer::new()).pool_idle_timeout(POOL_IDLE).http2_only(h2c);
            if fresh {
                builder.pool_max_idle_per_host(0);
            }
            builder.build(connector(h2c))
        };
        let clients = |fresh| Clients { agreed: sender(false, fresh), h2c: sender(true, fresh) };
        Self(Arc::new(Pools {
            reused: clients(false),
            fresh: clients(true),
            pools: Mutex::default(),
            connector: tcp.clone(),
            route: Arc::clone(&route),
            tls: tls.clone(),
            reuse: Arc::clone(&reuse),
        }))
    }

    /// The same for places that others name: nothing of a private network, or of this machine, is
    /// dialled by its name. A proxy looks names up by itself.
    pub fn to_public(&self) -> Self {
        Self::with(&self.0.tls, (*self.0.route).clone(), true)
    }

    /// Uses no connection twice, from now on and for a while.
    pub fn distrust_pool(&self) {
        self.0.reuse.distrust();
    }

    /// Forgets what was found out about the server.
    #[cfg(test)]
    pub fn trust_pool(&self) {
        self.0.reuse.trust();
    }

    /// Whether each request is to dial a connection of its own.
    pub fn wants_fresh(&self) -> bool {
        !self.0.reuse.is_trusted()
    }

    /// Sends one request. Whether it may be sent again where its connection broke, its sender
    /// knows; where the server had closed that before, nothing was sent ([`NetError::Closed`]).
    ///
    /// # Errors
    /// The connection cannot be opened, or breaks before the head of an answer.
    pub async fn send(
        &self,
        mut request: Request<Bytes>,
        options: SendOptions<'_>,
    ) -> Result<Answer, NetError> {
        if let Some(pool) = options.pool
            && pool.takes(request.body())
        {
            return self.send_text(pool, &pool.text(request), options.fresh).await;
        }
        let clients = if options.fresh { &self.0.fresh } else { &self.0.reused };
        let sender = if options.h2c { &clients.h2c } else { &clients.agreed };
        // A proxy that forwards is told with each request; a tunnel was told when it was opened.
        if !options.h2c
            && *self.0.route != ProxyRoute::Direct
            && request.uri().scheme_str() == Some("http")
            && let Some(proxy) = self.0.route.to(request.uri())
            && let Some(authorization) = proxy.authorization.clone()
        {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
        }
        let sent = sender.request(request.map(Full::new)).await;
        sent.map(|response| response.map(AnswerBody::of_hyper)).map_err(|error| {
            if error.is_connect() {
                failed(&error, NetError::Connect)
            } else if was_closed_before(&error) {
                failed(&error, NetError::Closed)
            } else {
                failed(&error, NetError::Broken)
            }
        })
    }

    /// Sends a request that is written already, on a connection of this pool or a `fresh` one.
    ///
    /// # Errors
    /// As [`Net::send`].
    pub async fn send_text(
        &self,
        pool: &Pool,
        text: &RequestText,
        fresh: bool,
    ) -> Result<Answer, NetError> {
        pool.send(text, fresh).await.map_err(|error| match error {
            PoolError::Connect(_) => failed(&error, NetError::Connect),
            PoolError::Broken(Http1Error::Unsent(_)) => failed(&error, NetError::Closed),
            PoolError::Broken(_) => failed(&error, NetError::Broken),
        })
    }

    /// The pool for the server at this address, which is plain HTTP/1.1 without a proxy; none for
    /// others.
    pub fn pool_of(&self, uri: &Uri) -> Option<Arc<Pool>> {
        if *self.0.route != ProxyRoute::Direct {
            return None;
        }
        let mut pools = self.0.pools.lock();
        if let Some(found) = pools.iter().find(|pool| pool.is_of(uri)) {
            return Some(Arc::clone(found));
        }
        let reuse = Arc::clone(&self.0.reuse);
        let made = Pool::of(uri, self.0.connector.clone(), reuse)?;
        pools.push(Arc::clone(&made));
        Some(made)
    }
}

/// Opens connections; `is_public_only`: to addresses of the internet only, where it is by a name.
fn tcp(is_public_only: bool) -> TcpConnector {
    let mut tcp = TcpConnector::new_with_resolver(Resolver::new(is_public_only));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE / 3));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    tcp
}

/// Says what went wrong, in words; as what, unless it is for want of the gate's own.
fn failed<E: std::error::Error + 'static>(error: &E, what: fn(String) -> NetError) -> NetError {
    let is_sent = matches!(what(String::new()), NetError::Broken(_));
    let text = tls_words::of(error).unwrap_or_else(|| causes(error));
    let no_http = tls_words::is_no_http(error);
    let text = if no_http { format!("{text}: {NO_HTTP}") } else { text };
    // What was sent is not unsent for it.
    if !is_sent && lacks_resources(error) {
        return NetError::Exhausted(format!("this gateway has no room for it: {text}"));
    }
    what(text)
}

fn tls_builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the cipher suites of TLS 1.2 and 1.3")
}

/// Certificates that an upstream's is checked against, and the one that it is shown.
fn tls(dial: &Dial) -> Result<ClientConfig, String> {
    let builder = match &dial.ca {
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(ca, "ca")? {
                roots.add(certificate).map_err(|error| format!("`ca`: {error}"))?;
            }
            tls_builder().with_root_certificates(roots)
        }
        None => tls_builder().with_native_roots().map_err(|error| error.to_string())?,
    };
    let Some(identity) = &dial.identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(&identity.certificate, "client_certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes());
    let key = key.map_err(|_secret| "`client_key` holds no private key in PEM".to_owned())?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map_err(|error| format!("`client_certificate` and `client_key`: {error}"))
}

/// The certificates of a PEM text; none of one that cannot be read.
pub fn certificates_in(pem: &str) -> Vec<Vec<u8>> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    found.map(|certificate| certificate.to_vec()).collect()
}

fn certificates(pem: &str, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let found = found.map_err(|error| format!("`{key}`: {error}"))?;
    if found.is_empty() { Err(format!("`{key}` holds no certificate in PEM")) } else { Ok(found) }
}

/// Tells whether the gate's own process is out of files or memory, which is no fault of the server
/// that it called.
fn lacks_resources<E: std::error::Error + 'static>(error: &E) -> bool {
    // ENOMEM, ENFILE and EMFILE have the same numbers on all systems.
    const ERRORS: [i32; 3] = [12, 23, 24];
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.and_then(io::Error::raw_os_error).is_some_and(|raw| ERRORS.contains(&raw)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Tells whether the server had closed the connection before anything of the request was written.
fn was_closed_before<E: std::error::Error + 'static>(error: &E) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if io.is_some_and(|inner| inner.is::<ClosedBefore>()) {
            return true;
        }
        cause = error.source();
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn what_the_gate_itself_lacks_is_told_from_what_a_server_does() {
        for (raw, own) in [
            (24, true),
            (23, true),
            (12, true),
            (111, false),
            (104, false),
            (110, false),
            (113, false),
            (32, false),
            (99, false),
            (13, false),
        ] {
            let error = io::Error::from_raw_os_error(raw);
            assert_eq!(lacks_resources(&Outer(error)), own, "{raw}");
        }
        assert!(!lacks_resources(&Outer(io::Error::other("too many open files"))));
    }
}
