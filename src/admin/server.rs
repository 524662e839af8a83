//! The server of operators: accepts their connections, and answers their requests.

use std::{collections::VecDeque, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{
    builtin::report::{ReplicaReport, Report, UpstreamReport, UpstreamState},
    call::{
        machine::{self, DescriptorReserve},
        usage::ProcessUsage,
    },
    ingress::origin,
    snapshot::{Gate, Readiness},
};

use super::{
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
            let stream = match accepted {
                Ok((stream, _)) => stream,
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
            let end = stop.child_token();
            open.push_back(end.clone());
            self.gate.tasks.spawn("admin: connection", async move {
                tokio::select! {
                    // Dropped at a stop, or for another one: an operator asks again.
                    () = serve(gate, local, stream) => (),
                    () = end.cancelled() => (),
                }
                end.cancel();
            });
        }
    }
}

async fn serve(gate: Arc<Gate>, local: SocketAddr, stream: TcpStream) {
    let service = hyper::service::service_fn(move |request| {
        let gate = Arc::clone(&gate);
        async move { Ok::<_, Infallible>(answer(&gate, local, request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of an operator ended");
    }
}

async fn answer(gate: &Arc<Gate>, local: SocketAddr, request: Request<Incoming>) -> AdminReply {
    let snapshot = gate.snapshot();
    let server = &snapshot.config.server;
    if let Err(refusal) = origin::check(server, local, request.headers(), request.uri()) {
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
        _ => {
            let known = "there are /livez, /readyz, /metrics, /report and /cache/purge\n";
            reply(StatusCode::NOT_FOUND, TEXT, known)
        }
    }
}

/// Ready is a gate that takes calls, whatever its upstreams do: one that is down costs its own
/// tools, and no balancer should take the whole gate away for it. What does not work meanwhile is
/// named.
fn readiness(gate: &Gate) -> AdminReply {
    let Report { upstreams, degraded, edit_refused, .. } = gate.report();
    let mut unusable = serde_json::Map::new();
    for one in upstreams.iter().filter(|one| !one.unusable_schemas.is_empty()) {
        unusable.insert(one.name.clone(), json!(one.unusable_schemas));
    }
    let mut left_out = serde_json::Map::new();
    for one in upstreams.iter().filter(|one| !one.left_out.is_empty()) {
        left_out.insert(one.name.clone(), json!(one.left_out));
    }
    let is_well = |one: &&UpstreamReport| {
        let back = one.canary.as_ref().and_then(|canary| canary.back.as_ref());
        matches!(one.state, UpstreamState::Ready | UpstreamState::Idle)
            && one.replicas.iter().all(ReplicaReport::is_well)
            && back.is_none()
    };
    let troubled = upstreams.iter().filter(|one| !is_well(one)).map(|one| {
        let ill: Vec<_> = one.replicas.iter().filter(|replica| !replica.is_well()).collect();
        json!({
            "name": one.name,
            "state": one.state,
            "last_error": one.last_error,
            "last_words": one.last_words,
            "since": one.since,
            "last_try": one.last_try,
            "next_try": one.next_try,
            "lists": one.lists,
            "replicas": ill,
            "canary": one.canary,
        })
    });
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    let (status, word, why) = match gate.readiness() {
        Readiness::Ready => (StatusCode::OK, "ready", None),
        Readiness::Starting => (unavailable, "starting", None),
        Readiness::Stopping => (unavailable, "stopping", None),
        Readiness::Unrecorded(why) => (unavailable, "unrecorded", Some(why)),
    };
    let detail = json!({
        "status": word,
        "why": why,
        "troubled": troubled.collect::<Vec<_>>(),
        "unusable_schemas": unusable,
        "left_out": left_out,
        "degraded": degraded,
        "edit_refused": edit_refused,
    });
    reply(status, JSON, detail.to_string())
}
