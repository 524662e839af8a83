//! Accepting connections: HTTP/1.1 and HTTP/2 (also in clear text), TLS by certificate files, all
//! bounded.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::Request;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceBuilder, ServiceExt as _, limit::GlobalConcurrencyLimitLayer};

use crate::{config::Tls, snapshot::Gate, telemetry::Counter};

use super::{
    reply::{self, HttpReply, Refused},
    serve::serve,
};

/// A client has this long for its headers, and for the TLS handshake; hyper's own default.
const HEADERS_TIMEOUT: Duration = Duration::from_secs(30);
/// After an error such as too many open files, accepting again at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A front that accepts connections until told to stop.
pub struct Front {
    gate: Arc<Gate>,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Front {
    pub fn new(gate: Arc<Gate>, listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        Self { gate, listener, tls }
    }

    /// Accepts until `stop` is done, then lets what is under way end, `drain` at most.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let local = self.listener.local_addr().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let limits = self.gate.snapshot().config.server.limits.clone();
        let room = Arc::new(Semaphore::new(limits.connections_max));
        let graceful = GracefulShutdown::new();
        let gate = Arc::clone(&self.gate);
        let shell = ServiceBuilder::new()
            .load_shed()
            .layer(GlobalConcurrencyLimitLayer::new(limits.requests_max))
            .service_fn(move |request| {
                let gate = Arc::clone(&gate);
                async move { Ok::<_, Infallible>(Box::pin(serve(gate, local, request)).await) }
            });
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                // Dropped, a connection not yet accepted waits for the next listener.
                accepted = self.listener.accept() => accepted,
                () = &mut stop => break,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                self.gate.counters.add(Counter::RefusedConnections);
                continue; // closed at once
            };
            let connection =
                Connection { stream, tls: self.tls.clone(), gate: Arc::clone(&self.gate) };
            let serving = Box::pin(connection.serve(shell.clone(), graceful.watcher()));
            self.gate.tasks.finish(async move {
                serving.await;
                drop(place);
            });
        }
        drop(self.listener);
        let patience = self.gate.snapshot().config.server.limits.drain;
        if tokio::time::timeout(patience, graceful.shutdown()).await.is_err() {
            tracing::warn!("calls under way did not end within {patience:?} (`drain`)");
        }
    }
}

struct Connection {
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    gate: Arc<Gate>,
}

impl Connection {
    async fn serve<S>(self, shell: S, graceful: Watcher)
    where
        S: Service<Request<Incoming>, Response = HttpReply, Error = tower::BoxError>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
    {
        // An option that only costs latency where it cannot be set.
        self.stream.set_nodelay(true).ok();
        let Some(tls) = self.tls else {
            return serve_io(self.stream, shell, graceful, &self.gate).await;
        };
        match tokio::time::timeout(HEADERS_TIMEOUT, tls.accept(self.stream)).await {
            Ok(Ok(stream)) => serve_io(stream, shell, graceful, &self.gate).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }
}

async fn serve_io<S>(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    shell: S,
    graceful: Watcher,
    gate: &Arc<Gate>,
) where
    S: Service<Request<Incoming>, Response = HttpReply, Error = tower::BoxError>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    let service = hyper::service::service_fn(move |request| {
        let shell = shell.clone();
        let gate = Arc::clone(gate);
        async move {
            Ok::<_, Infallible>(shell.oneshot(request).await.unwrap_or_else(|_| {
                gate.counters.add(Counter::RefusedRequests);
                reply::refused(&Refused::Overloaded, None)
            }))
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(io), service).into_owned();
    if let Err(error) = graceful.watch(connection).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Reads certificate and key.
///
/// # Errors
/// Names the file and what is wrong with it.
pub fn tls(files: &Tls) -> Result<TlsAcceptor, String> {
    let certificate = files.certificate.display();
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{certificate}: no certificate can be read from it: {error}"))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        format!("{}: no private key can be read from it: {error}", files.key.display())
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| format!("{certificate} and its key cannot be used: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
