//! Accepting connections: HTTP/1.1 and HTTP/2 (also in clear text), TLS by certificate files, all
//! bounded.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
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
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{call::Caller, config::Tls, snapshot::Gate, telemetry::Counter};

use super::{
    events::Streams,
    reply::{self, HttpBody, HttpReply, Refused},
    serve::serve,
};

/// How often a client of HTTP/2 is asked whether it is still there; it has hyper's 20 s to answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// After an error such as too many open files, accepting again at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// At a stop, connections just accepted have this long to begin with their request (two round trips
/// over a long line): hyper-util drops those of which nothing has been read.
const FIRST_BYTES: Duration = Duration::from_millis(250);

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
        let door = Door {
            gate: Arc::clone(&self.gate),
            local,
            caller: Caller::Address(local.ip()),
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            streams: Arc::default(),
        };
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                // Dropped, a connection not yet accepted waits for the next listener.
                accepted = self.listener.accept() => accepted,
                () = &mut stop => break,
            };
            let Ok((stream, peer)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                self.gate.counters.add(Counter::RefusedConnections);
                continue; // closed at once
            };
            let serving =
                Box::pin(door.to(peer.ip()).accept(stream, self.tls.clone(), graceful.watcher()));
            self.gate.tasks.finish(async move {
                serving.await;
                drop(place);
            });
        }
        drop(self.listener);
        if 0 < graceful.count() {
            tokio::time::sleep(FIRST_BYTES).await;
        }
        let patience = self.gate.snapshot().config.server.limits.drain;
        if tokio::time::timeout(patience, graceful.shutdown()).await.is_err() {
            tracing::warn!("calls under way did not end within {patience:?} (`drain`)");
        }
    }
}

/// What all connections lead to.
#[derive(Clone)]
struct Door {
    gate: Arc<Gate>,
    local: SocketAddr,
    /// Who is at the other end.
    caller: Caller,
    /// Room for requests under way.
    requests: Arc<Semaphore>,
    /// Those of the older HTTP+SSE.
    streams: Arc<Streams>,
}

impl Door {
    /// The same for a connection from this address. One of IPv4 is the same over a socket of IPv6.
    fn to(&self, peer: IpAddr) -> Self {
        Self { caller: Caller::Address(peer.to_canonical()), ..self.clone() }
    }

    async fn accept(self, stream: TcpStream, tls: Option<TlsAcceptor>, graceful: Watcher) {
        // An option that only costs latency where it cannot be set.
        stream.set_nodelay(true).ok();
        let patience = self.gate.snapshot().config.server.limits.request_timeout;
        let Some(tls) = tls else { return self.serve(stream, graceful, patience).await };
        match tokio::time::timeout(patience, tls.accept(stream)).await {
            // Boxed: TLS is large.
            Ok(Ok(stream)) => Box::pin(self.serve(stream, graceful, patience)).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => self.gate.counters.add(Counter::RefusedSlow),
        }
    }

    /// Serves until the client closes. One from which no request came within `patience` is closed:
    /// hyper itself waits for the first bytes without an end.
    async fn serve(
        self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        graceful: Watcher,
        patience: Duration,
    ) {
        let (asked, counters) = (CancellationToken::new(), Arc::clone(&self.gate.counters));
        let first = asked.clone();
        let service = hyper::service::service_fn(move |request| {
            first.cancel();
            let door = self.clone();
            async move { Ok::<_, Infallible>(door.answer(request).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(patience);
        builder.http2().timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL);
        let connection = builder.serve_connection(TokioIo::new(io), service).into_owned();
        let silence = async {
            if tokio::time::timeout(patience, asked.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // Dropped only where nothing was asked: nothing is lost.
            ended = graceful.watch(connection) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
            }
            () = silence => counters.add(Counter::RefusedSlow),
        }
    }

    /// Answers one request, unless too many are under way. It is so until its answer ends.
    async fn answer(self, request: Request<Incoming>) -> HttpReply {
        let Ok(place) = self.requests.try_acquire_owned() else {
            return reply::refused(&Refused::Overloaded, None, &self.gate.counters);
        };
        // Boxed: what the connection holds is to stay small.
        let reply =
            Box::pin(serve(self.gate, self.streams, self.local, self.caller, request)).await;
        reply.map(|body| Counted { body, _place: place }.boxed_unsync())
    }
}

/// The body of an answer, which counts as a request under way until it is dropped.
struct Counted {
    body: HttpBody,
    _place: OwnedSemaphorePermit,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
