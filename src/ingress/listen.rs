//! Accepting connections: HTTP/1.1 and HTTP/2 (also in clear text), with TLS or without, all
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
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    auth::{Certificate, Peer},
    snapshot::Gate,
    telemetry::Counter,
};

use super::{
    events::Streams,
    reply::{self, HttpBody, HttpReply, Refused},
    serve::serve,
    tls::Certificates,
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
    tls: Option<Arc<Certificates>>,
}

impl Front {
    pub fn new(gate: Arc<Gate>, listener: TcpListener, tls: Option<Arc<Certificates>>) -> Self {
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
            peer: Peer { address: local.ip(), certificate: None },
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
            let tls = self.tls.as_ref().map(|tls| tls.acceptor());
            let serving = Box::pin(door.to(peer.ip()).accept(stream, tls, graceful.watcher()));
            // Dropped when the gate ends, long after the drain: as if the client had closed.
            self.gate.tasks.spawn("connection", async move {
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
    peer: Peer,
    /// Room for requests under way.
    requests: Arc<Semaphore>,
    /// Those of the older HTTP+SSE.
    streams: Arc<Streams>,
}

impl Door {
    /// The same for a connection from this address. One of IPv4 is the same over a socket of IPv6.
    fn to(&self, peer: IpAddr) -> Self {
        let peer = Peer { address: peer.to_canonical(), certificate: None };
        Self { peer, ..self.clone() }
    }

    async fn accept(
        self,
        stream: TcpStream,
        tls: Option<(TlsAcceptor, CancellationToken)>,
        graceful: Watcher,
    ) {
        // An option that only costs latency where it cannot be set.
        stream.set_nodelay(true).ok();
        let patience = self.gate.snapshot().config.server.limits.request_timeout;
        let Some((tls, replaced)) = tls else {
            return self.serve(stream, graceful, patience).await;
        };
        match tokio::time::timeout(patience, tls.accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates();
                let shown = shown.and_then(|chain| Certificate::read(chain.first()?));
                let peer = Peer { certificate: shown.map(Arc::new), ..self.peer.clone() };
                let known = peer.certificate.is_some();
                let serving = Self { peer, ..self }.serve(stream, graceful, patience);
                tokio::select! {
                    // Boxed: TLS is large. Dropped, what is under way ends as if the client had
                    // closed: nobody vouches for it any more.
                    () = Box::pin(serving) => (),
                    () = replaced.cancelled(), if known => (),
                }
            }
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
        let reply = Box::pin(serve(self.gate, self.streams, self.local, self.peer, request)).await;
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
