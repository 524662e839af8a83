//! The server of operators: accepts their connections, and answers their requests.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{
    call::{
        machine::{self, DescriptorReserve},
        usage::ProcessUsage,
    },
    ingress::origin,
    snapshot::Gate,
};

use super::{
    api,
    health::Health,
    metrics, purge,
    reply::{AdminReply, JSON, TEXT, reply},
};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at once: a scraper, a probe and some people. Every answer is ready at once, so one
/// more ends the oldest, which does nothing: a probe always gets in.
const CONNECTIONS_MAX: usize = 32;
/// Time for a request's head to come; the connection of each ends with its answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error such as too many open files, accepting again at once would only burn the core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Descriptors that are kept for operators, for when there are no others.
const RESERVE: usize = 4;

/// The operators' listener, and the gate that it reports on.
pub struct AdminServer {
    gate: Arc<Gate>,
    listener: TcpListener,
}

impl AdminServer {
    pub fn new(gate: Arc<Gate>, listener: TcpListener) -> Self {
        Self { gate, listener }
    }

    /// Serves until `stop`; connections end with it, whatever they ask.
    pub async fn run(self, stop: CancellationToken) {
        let local = self.listener.local_addr().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut open = VecDeque::<CancellationToken>::new();
        let mut reserve = DescriptorReserve::take(RESERVE);
        loop {
            let accepted = tokio::select! {
                // Dropped, a connection that waits is closed with the listener.
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (stream, peer) = match accepted {
                Ok((stream, peer)) => (stream, peer.ip()),
                // Accepted the next time, by a descriptor that was kept for that.
                Err(error) if machine::is_exhausted(&error) && reserve.release() => continue,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    reserve.refill();
                    continue;
                }
            };
            reserve.refill();
            open.retain(|connection| !connection.is_cancelled());
            if CONNECTIONS_MAX <= open.len()
                && let Some(oldest) = open.pop_front()
            {
                oldest.cancel();
            }
            let gate = Arc::clone(&self.gate);
            let ends = Ends { local, peer };
            let end = stop.child_token();
            open.push_back(end.clone());
            self.gate.tasks.spawn("admin: connection", async move {
                tokio::select! {
                    // Dropped at a stop, or for another one: an operator asks again.
                    () = serve(gate, ends, stream) => (),
                    () = end.cancelled() => (),
                }
                end.cancel();
            });
        }
    }
}

/// The addresses of a connection.
#[derive(Debug, Clone, Copy)]
struct Ends {
    local: SocketAddr,
    peer: IpAddr,
}

async fn serve(gate: Arc<Gate>, ends: Ends, stream: TcpStream) {
    let service = hyper::service::service_fn(move |request| {
        let gate = Arc::clone(&gate);
        async move { Ok::<_, Infallible>(answer(&gate, ends, request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of an operator ended");
    }
}

async fn answer(gate: &Arc<Gate>, ends: Ends, request: Request<Incoming>) -> AdminReply {
    let snapshot = gate.snapshot();
    let server = &snapshot.config.server;
    if let Err(refusal) = origin::check(server, ends.local, request.headers(), request.uri()) {
        gate.counters.add(refusal.counter());
        return reply(refusal.status(), TEXT, format!("{refusal}\n"));
    }
    if request.uri().path() == purge::PATH {
        return purge::answer(gate, request).await;
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut reply = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "allowed here: GET\n");
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return reply;
    }
    match request.uri().path() {
        "/livez" => reply(StatusCode::OK, TEXT, "alive\n"),
        "/readyz" => readiness(gate),
        "/metrics" => reply(
            StatusCode::OK,
            OPEN_METRICS,
            metrics::text(gate.report(), gate.counters.calls(), ProcessUsage::now()),
        ),
        "/report" => reply(StatusCode::OK, JSON, json!(gate.report()).to_string()),
        path if path.starts_with(api::PREFIX) => api::answer(gate, &snapshot, ends.peer, path),
        _ => {
            let known = "there are /livez, /readyz, /metrics, /report, /cache/purge, and \
                         /api/v1/openapi.json, which lists more\n";
            reply(StatusCode::NOT_FOUND, TEXT, known)
        }
    }
}

fn readiness(gate: &Gate) -> AdminReply {
    let health = Health::of(gate);
    reply(health.http_status(), JSON, json!(health).to_string())
}
