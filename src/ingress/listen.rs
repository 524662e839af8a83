//! Accepting connections: HTTP/1.1 and HTTP/2 (also in clear text), with TLS or without, all
//! bounded.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::{Request, Response, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{Certificate, ClientPeer},
    call::machine::{self, DescriptorReserve},
    config::Limits,
    snapshot::Gate,
    telemetry::{Counter, Gauge, Raised},
};

use super::{
    connections::{
        ClientConnection, ConnectionBounds, ConnectionRefusal, ConnectionSlot, Connections,
    },
    cors::{self, AllowedOrigin},
    outgoing::{
        body::{OutgoingBody, RequestGuards},
        budget::{self, Exceeded, Recipient, SendBounds, SendBudget, SendReservation},
        stall::StreamExecutor,
    },
    plain,
    reply::{self, HttpReply, Rejection},
    request_body::BodyBudget,
    serve::serve,
    shared::{CountedReply, ListenerState},
    tls::ServerCertificates,
    wire::ClientStream,
};

/// The pause between two PINGs to a client of HTTP/2; it has hyper's 20 s to answer.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// After an error such as too many open files, accepting again at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time that connections just accepted have, at a stop, to begin with their request (two round
/// trips over a long line): hyper-util drops those of which nothing has been read.
const FIRST_BYTES: Duration = Duration::from_millis(250);

/// Time in which calls that `drain` cuts off are answered.
const ANSWERS: Duration = Duration::from_secs(1);

/// A connection that made room, or was idle for too long, is closed after this time at most, where
/// nothing is asked on it: its client learns by then that it is to use another one.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The part of all descriptors that is left to upstreams and files, where connections would take
/// all.
const DESCRIPTORS_PART: u64 = 4;

/// Accepts connections until told to stop.
pub struct Listener {
    gate: Arc<Gate>,
    listener: TcpListener,
    tls: Option<Arc<ServerCertificates>>,
}

impl Listener {
    pub fn new(
        gate: Arc<Gate>,
        listener: TcpListener,
        tls: Option<Arc<ServerCertificates>>,
    ) -> Self {
        Self { gate, listener, tls }
    }

    /// Accepts until `stop` is done, then lets what is under way end, `drain` at most.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let local = self.listener.local_addr().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let limits = self.gate.snapshot().config.server.limits.clone();
        let connections = Connections::new(bounds(&limits), Arc::clone(&self.gate.counters));
        let shared = shared(&self.gate, &limits);
        let sweeping = sweep(Arc::clone(&self.gate), Arc::clone(&connections), Arc::clone(&shared));
        self.gate.tasks.spawn("connections: sweep", sweeping);
        let context = ConnectionContext {
            gate: Arc::clone(&self.gate),
            local,
            peer: ClientPeer { address: local.ip(), certificate: None },
            requests: Arc::new(Semaphore::new(limits.requests_max)),
            shared,
        };
        let open = TaskTracker::new();
        let mut reserve = DescriptorReserve::take(1);
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                // Dropped, a connection not yet accepted waits for the next listener.
                accepted = self.listener.accept() => accepted,
                () = &mut stop => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.failed(&error, &connections, &mut reserve).await;
                    continue;
                }
            };
            let Some(slot) = self.admit(&connections, peer.ip()) else {
                continue; // closed at once
            };
            let tls = self.tls.as_ref().map(|tls| tls.acceptor());
            let serving = Box::pin(context.for_peer(peer.ip()).accept(stream, tls, slot));
            // Dropped when the gate ends, long after the drain: as if the client had closed.
            self.gate.tasks.spawn("connection", open.track_future(serving));
        }
        drop(self.listener);
        if !open.is_empty() {
            tokio::time::sleep(FIRST_BYTES).await;
        }
        connections.close();
        open.close();
        let patience = self.gate.snapshot().config.server.limits.drain;
        if tokio::time::timeout(patience, open.wait()).await.is_err() {
            tracing::warn!("calls under way did not end within {patience:?} (`drain`)");
            // Their upstreams are closed now, and that is their answer.
            tokio::time::timeout(ANSWERS, open.wait()).await.ok();
        }
    }

    fn admit(&self, connections: &Arc<Connections>, peer: IpAddr) -> Option<ConnectionSlot> {
        let snapshot = self.gate.snapshot();
        let proxies = &snapshot.config.server.trusted_proxies;
        let is_proxy = proxies.iter().any(|network| network.contains(peer));
        let admitted = connections.admit(peer.to_canonical(), is_proxy);
        let count = |refusal: &ConnectionRefusal| {
            self.gate.counters.add(match refusal {
                ConnectionRefusal::Full => Counter::RefusedConnections,
                ConnectionRefusal::Address => Counter::RefusedAddresses,
            });
        };
        admitted.inspect_err(count).ok()
    }

    /// Deals with a connection that could not be accepted. Where that is for want of descriptors,
    /// the connection that is idle for longest makes room, and where none is idle, the client that
    /// waits is turned away rather than left without a word.
    async fn failed(
        &self,
        error: &io::Error,
        connections: &Connections,
        reserve: &mut DescriptorReserve,
    ) {
        tracing::debug!(%error, "a connection was not accepted");
        if machine::is_exhausted(error) {
            self.gate.counters.add(Counter::AcceptExhausted);
            if !connections.shed() {
                turn_away(reserve, &self.listener).await;
            }
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

fn bounds(limits: &Limits) -> ConnectionBounds {
    let all = machine::descriptors().map(|all| all - all / DESCRIPTORS_PART);
    let all = all.and_then(|all| usize::try_from(all).ok()).unwrap_or(usize::MAX);
    ConnectionBounds {
        connections_max: limits.connections_max.min(all),
        per_address_max: limits.per_address(),
        idle: limits.request_timeout,
        write_timeout: limits.write_timeout,
    }
}

fn shared(gate: &Gate, limits: &Limits) -> Arc<ListenerState> {
    let none = SendBounds { connection: 0, caller: 0, gate: 0 };
    let shared = ListenerState {
        streams: Arc::default(),
        bodies: BodyBudget::default(),
        budget: SendBudget::new(none, Arc::clone(&gate.counters)),
        memory: machine::memory(),
    };
    shared.budget.set(shared.unsent(limits));
    Arc::new(shared)
}

/// Ends connections in which nothing goes on, and has the budgets as they are configured.
async fn sweep(gate: Arc<Gate>, connections: Arc<Connections>, shared: Arc<ListenerState>) {
    loop {
        tokio::time::sleep(connections.period()).await;
        connections.sweep();
        shared.budget.set(shared.unsent(&gate.snapshot().config.server.limits));
    }
}

/// Closes the connection that waits to be accepted, by the descriptor kept for that.
async fn turn_away(reserve: &mut DescriptorReserve, listener: &TcpListener) {
    reserve.release();
    // None may wait any more.
    if let Ok(Ok((stream, _))) = tokio::time::timeout(ACCEPT_PAUSE, listener.accept()).await {
        drop(stream);
    }
    reserve.refill();
}

/// State that all connections of a listener share, and the peer of this one.
#[derive(Clone)]
struct ConnectionContext {
    gate: Arc<Gate>,
    local: SocketAddr,
    peer: ClientPeer,
    /// The room for requests under way.
    requests: Arc<Semaphore>,
    shared: Arc<ListenerState>,
}

impl ConnectionContext {
    /// The context of a connection from this address. An address of IPv4 is the same over a socket
    /// of IPv6.
    fn for_peer(&self, peer: IpAddr) -> Self {
        let peer = ClientPeer { address: peer.to_canonical(), certificate: None };
        Self { peer, ..self.clone() }
    }

    async fn accept(
        self,
        stream: TcpStream,
        tls: Option<(TlsAcceptor, CancellationToken)>,
        slot: ConnectionSlot,
    ) {
        // An option that only costs latency where it cannot be set.
        stream.set_nodelay(true).ok();
        let mut wire = ClientStream { stream, connection: Arc::clone(&slot.connection) };
        let patience = self.gate.snapshot().config.server.limits.request_timeout;
        let Some((tls, replaced)) = tls else {
            return self.serve(wire, &slot, patience).await;
        };
        let shaking = async {
            if plain::is_answered(&mut wire.stream, self.peer.address).await {
                return None;
            }
            Some(tls.accept(wire).await)
        };
        let shaken = tokio::select! {
            // Nothing was asked yet where this is dropped.
            shaken = tokio::time::timeout(patience, shaking) => shaken,
            () = slot.connection.ending() => return,
        };
        match shaken {
            Ok(Some(Ok(stream))) => {
                let shown = stream.get_ref().1.peer_certificates();
                let shown = shown.and_then(|chain| Certificate::read(chain.first()?));
                let peer = ClientPeer { certificate: shown.map(Arc::new), ..self.peer.clone() };
                let known = peer.certificate.is_some();
                let serving = Self { peer, ..self }.serve(stream, &slot, patience);
                tokio::select! {
                    // Boxed: TLS is large. Dropped, what is under way ends as if the client had
                    // closed: nobody vouches for it any more.
                    () = Box::pin(serving) => (),
                    () = replaced.cancelled(), if known => (),
                }
            }
            Ok(Some(Err(error))) => tracing::debug!(%error, "a TLS handshake failed"),
            // It was no handshake.
            Ok(None) => (),
            Err(_) => self.gate.counters.add(Counter::RefusedSlow),
        }
    }

    /// Serves until the client closes, or the connection has to end. One from which no request came
    /// within `patience` is closed: hyper itself waits for the first bytes without an end.
    async fn serve(
        self,
        io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        slot: &ConnectionSlot,
        patience: Duration,
    ) {
        let requested = CancellationToken::new();
        let counters = Arc::clone(&self.gate.counters);
        let first = requested.clone();
        let own = Arc::clone(&slot.connection);
        let limits = self.gate.snapshot().config.server.limits.clone();
        let streams =
            StreamExecutor { write_timeout: limits.write_timeout, counters: Arc::clone(&counters) };
        let service = hyper::service::service_fn(move |request| {
            first.cancel();
            let context = self.clone();
            let connection = Arc::clone(&own);
            async move { Ok::<_, Infallible>(context.answer(request, connection).await) }
        });
        let head = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
        let mut builder = auto::Builder::new(streams);
        let mut http1 = builder.http1();
        http1.timer(TokioTimer::new()).header_read_timeout(patience);
        http1.max_buf_size(limits.head_bytes_max);
        let mut http2 = builder.http2();
        http2.timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL);
        http2.max_header_list_size(head);
        let connection = builder.serve_connection(TokioIo::new(io), service).into_owned();
        let mut connection = pin!(connection);
        let silence = async {
            if tokio::time::timeout(patience, requested.cancelled()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            ended = connection.as_mut() => return log_end(ended),
            () = slot.connection.ending() => (),
            // Dropped only where its client takes nothing, or had to make room for others.
            () = slot.connection.cut_off() => return,
            // Dropped only where nothing was asked: nothing is lost.
            () = silence => return counters.add(Counter::RefusedSlow),
        }
        connection.as_mut().graceful_shutdown();
        end(connection, slot).await;
    }

    /// Answers one request, unless too many are under way. It is so until its answer ends.
    async fn answer(
        self,
        request: Request<Incoming>,
        connection: Arc<ClientConnection>,
    ) -> Response<OutgoingBody> {
        let http2 = request.version() == Version::HTTP_2;
        let active = connection.begin(http2);
        let permit = Arc::clone(&self.requests).try_acquire_owned().ok();
        let counters = Arc::clone(&self.gate.counters);
        let shared = Arc::clone(&self.shared);
        // Few requests are of pages, and what they are refused with is to be read by them, too.
        let page = if request.headers().contains_key(header::ORIGIN) {
            let snapshot = self.gate.snapshot();
            AllowedOrigin::checked(&snapshot.config.server, self.local, &request)
        } else {
            None
        };
        let refused = |rejection: Rejection| {
            let mut reply = reply::rejected(&rejection, None, &counters).into_reply();
            if let Some(page) = page.clone() {
                page.allow(reply.headers_mut());
                cors::vary(reply.headers_mut());
            }
            reply
        };
        let CountedReply { reply, caller } = match &permit {
            None => refused(Rejection::Overloaded).into(),
            // Boxed: what the connection holds is to stay small.
            Some(_) => {
                let Self { gate, local, peer, .. } = self;
                Box::pin(serve(gate, self.shared, local, peer, request)).await
            }
        };
        let to = Recipient { caller, connection, http2 };
        let budget = Arc::clone(&shared.budget);
        let (reply, reserved) = match reserve(&reply, &to, &budget) {
            Ok(reserved) => (reply, reserved),
            Err(exceeded) => (refused(Rejection::Unsent(exceeded)), None),
        };
        // Streams alone have bodies of a size that nobody knows beforehand.
        let is_stream = reply.body().size_hint().exact().is_none();
        let stream = is_stream.then(|| Raised::new(counters, Gauge::Streams));
        let guards = RequestGuards { permit, active, stream };
        reply.map(|body| OutgoingBody::new(body, reserved, to, budget, guards))
    }
}

/// Counts a reply whose size is known beforehand, where it is large.
fn reserve(
    reply: &HttpReply,
    to: &Recipient,
    budget: &Arc<SendBudget>,
) -> Result<Option<SendReservation>, Exceeded> {
    let bytes = reply.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let large = bytes.filter(|bytes| budget::COUNTED_MIN < *bytes);
    large.map(|bytes| budget.admit(bytes, to)).transpose()
}

/// Waits for the end of a connection that was told to end: for what is under way, and then for a
/// moment only, but where all are told so at a stop.
async fn end<E: std::fmt::Display>(
    mut connection: Pin<&mut impl Future<Output = Result<(), E>>>,
    slot: &ConnectionSlot,
) {
    let _ending = (!slot.is_closing()).then(|| slot.ending());
    loop {
        tokio::select! {
            ended = connection.as_mut() => return log_end(ended),
            () = slot.connection.cut_off() => return,
            // Dropped where nothing is asked: the client was told that nothing will be answered.
            () = tokio::time::sleep(LAST_WORDS), if !slot.is_closing() => {
                if slot.connection.is_idle() {
                    return;
                }
            }
        }
    }
}

fn log_end<E: std::fmt::Display>(ended: Result<(), E>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}
