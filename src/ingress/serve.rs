//! Serves an HTTP request: refused, answered, or handed to the conversation of its client.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, Method as Verb, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming as HttpIncoming;

use tokio::time::Instant;

use crate::{
    auth::{AuthError, ClientPeer},
    call::{Arrival, CallId, Caller, TraceContext},
    mcp::message::{self, Incoming, Message, Request as McpRequest},
    pipeline::{self, Call, Fault},
    session::{Session, outbox::EventId},
    snapshot::{Gate, Route, RouteSnapshot, Snapshot},
    telemetry::{Counter, Reason, printable, throttle},
};

use super::{
    accept::{self, Accepts},
    conversation::{Conversation, MessageAction},
    cors::{self, AllowedOrigin},
    decode::{self, Unread},
    endpoint::{self, RouteEndpoint},
    events, forwarded,
    origin::{self, OriginRefusal},
    reply::{self, HttpReply, Rejection, RequestHead, SESSION},
    shared::{CountedReply, ListenerState},
    stream,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Characters of a header of a stranger in the log.
const HEADER_CHARS_SHOWN: usize = 100;

/// Answers one request: of a page in a browser, so that the page may read it.
pub async fn serve(
    gate: Arc<Gate>,
    shared: Arc<ListenerState>,
    local: SocketAddr,
    mut peer: ClientPeer,
    request: Request<HttpIncoming>,
) -> CountedReply {
    gate.counters.add(Counter::Requests);
    let request_id = CallId::random();
    let snapshot = gate.snapshot();
    let server = &snapshot.config.server;
    peer.address = forwarded::client(peer.address, &server.trusted_proxies, request.headers());
    if let Err(refusal) = origin::check(server, local, request.headers(), request.uri()) {
        gate.counters.add(refusal.counter());
        let mut refused = reply::plain(refusal.status(), format!("{refusal}\n"));
        log_refused(&refusal, request_id, &peer, request.headers());
        reply::identify(&mut refused, request_id);
        return refused.into();
    }
    let origin = AllowedOrigin::of(request.headers());
    let varies = !server.origins.is_empty();
    let at = SnapshotAt { gate, snapshot, shared, request_id };
    let mut counted = answer(at, peer, request).await;
    reply::identify(&mut counted.reply, request_id);
    if let Some(origin) = origin {
        origin.allow(counted.reply.headers_mut());
        cors::vary(counted.reply.headers_mut());
    } else if varies {
        cors::vary(counted.reply.headers_mut());
    }
    counted
}

/// The snapshot and connection that a request is served with.
struct SnapshotAt {
    gate: Arc<Gate>,
    snapshot: Arc<Snapshot>,
    shared: Arc<ListenerState>,
    request_id: CallId,
}

/// Logs who asked for a host or from a page that is not served here.
fn log_refused(refusal: &OriginRefusal, id: CallId, peer: &ClientPeer, headers: &HeaderMap) {
    let address = peer.address;
    throttle::line(("origin", address), |more| {
        let text = |name: HeaderName| {
            let value = String::from_utf8_lossy(headers.get(name)?.as_bytes()).into_owned();
            Some(printable::line(&value).chars().take(HEADER_CHARS_SHOWN).collect::<String>())
        };
        let host = text(header::HOST);
        let origin = text(header::ORIGIN);
        tracing::warn!(request = %id, %address, host, origin, more, "refused: {refusal}");
    });
}

async fn answer(at: SnapshotAt, peer: ClientPeer, request: Request<HttpIncoming>) -> CountedReply {
    let SnapshotAt { gate, snapshot, shared, request_id } = at;
    let path = request.uri().path();
    let found = endpoint::find(&snapshot, path);
    if cors::is_preflight(&request) && (found.is_some() || endpoint::is_metadata(path)) {
        return cors::preflight(request.headers()).into();
    }
    let Some((route, endpoint)) = found else {
        return endpoint::elsewhere(&gate, &snapshot, path, request.method()).into();
    };
    let is_traced = gate.tracer.is_some();
    let begun = is_traced.then(Instant::now);
    let caller = match recognised(&route, &peer, request.headers()).await {
        Ok(caller) => caller,
        Err(error) => return reply::unrecognised(&error, None, &route.auth).into(),
    };
    let forwarded = route.forwarded(request.headers()).map(Arc::new);
    let is_read = is_traced || gate.audit.is_some() || snapshot.config.log.access;
    let arrival = is_read.then(|| Arc::new(arrival(request.headers(), begun)));
    let at = RouteSnapshot { gate, snapshot, route };
    let peer = Some(peer.address);
    let request_id = Some(request_id);
    let conversation = Conversation { at, caller, peer, request: request_id, takes_modern: true };
    let handler = RouteHandler { conversation, shared, forwarded, arrival };
    let reply = match (endpoint, request.method()) {
        // Boxed: large.
        (RouteEndpoint::Route, &Verb::POST) => Box::pin(handler.post(request)).await,
        (RouteEndpoint::Route, &Verb::GET) => handler.get(request.headers()),
        (RouteEndpoint::Route, &Verb::DELETE) => handler.delete(request.headers()),
        (RouteEndpoint::Route, _) => reply::not_allowed("GET, POST, DELETE"),
        (RouteEndpoint::Stream, &Verb::GET) => handler.stream(request.headers()),
        // A client that tries Streamable HTTP first learns so that it is the older one here.
        (RouteEndpoint::Stream, _) => reply::not_allowed("GET"),
        (RouteEndpoint::Messages, &Verb::POST) => handler.message(request).await,
        (RouteEndpoint::Messages, _) => reply::not_allowed("POST"),
    };
    handler.shared.counted(reply, &handler.conversation.caller)
}

/// Reads the trace that a request says it is part of (W3C Trace Context). Of several `tracestate`
/// or `baggage` headers, all are one list; of several `traceparent` headers none is valid.
fn arrival(headers: &HeaderMap, begun: Option<Instant>) -> Arrival {
    let list = |name| {
        let values = headers.get_all(name).iter();
        let values: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| values.join(","))
    };
    let mut parents = headers.get_all("traceparent").iter();
    let parent = parents.next().filter(|_| parents.next().is_none());
    let parent = parent.and_then(|value| value.to_str().ok());
    let state = list("tracestate");
    let baggage = list("baggage");
    let context = |text| TraceContext::new(text, state.as_deref(), baggage.as_deref());
    let identified = Instant::now();
    Arrival { trace: parent.and_then(context), begun: begun.unwrap_or(identified), identified }
}

/// Identifies the caller, where the route wants to know it.
async fn recognised(
    route: &Route,
    peer: &ClientPeer,
    headers: &HeaderMap,
) -> Result<Caller, AuthError> {
    if route.auth.is_open() {
        return Ok(Caller::Address(peer.address));
    }
    Box::pin(route.auth.identify(peer, headers)).await.map(Caller::Known)
}

/// Answers requests on one route.
struct RouteHandler {
    conversation: Conversation,
    shared: Arc<ListenerState>,
    /// The headers of the request that upstreams are to have.
    forwarded: Option<Arc<HeaderMap>>,
    /// When the request came, and its trace; read only where calls are written down or traced.
    arrival: Option<Arc<Arrival>>,
}

impl RouteHandler {
    async fn post(&self, request: Request<HttpIncoming>) -> HttpReply {
        let (parts, body) = request.into_parts();
        if !accept::is_json(&parts.headers) {
            return not_json();
        }
        let Some(accepts) = Accepts::of(&parts.headers) else {
            return reply::plain(
                StatusCode::NOT_ACCEPTABLE,
                "Accept must list application/json and text/event-stream\n",
            );
        };
        let reply = match self.read(body).await {
            Ok(Incoming::One(message)) => self.one(&parts.headers, message, accepts).await,
            Ok(Incoming::Batch(messages)) => self.batch(&parts.headers, messages).await,
            Err(unread) => self.reject_unread(&unread),
        };
        match accepts {
            Accepts::OnlyStream => Box::pin(reply::streamed(reply)).await,
            Accepts::Json | Accepts::Both | Accepts::PrefersStream => reply,
        }
    }

    /// A message posted for a stream of the older HTTP+SSE.
    async fn message(&self, request: Request<HttpIncoming>) -> HttpReply {
        let (parts, body) = request.into_parts();
        let id = events::session_of(parts.uri.query()).unwrap_or_default();
        // Before the body is read: it is of nobody.
        if !self.shared.streams.has(&self.conversation, id) {
            return self.reject(&Rejection::UnknownSession);
        }
        if !accept::is_json(&parts.headers) {
            return not_json();
        }
        match self.read(body).await {
            Ok(incoming) => self.shared.streams.post(&self.conversation, id, incoming).await,
            Err(unread) => self.reject_unread(&unread),
        }
    }

    /// The stream of the older HTTP+SSE.
    fn stream(&self, headers: &HeaderMap) -> HttpReply {
        if !accept::accepts_stream(headers) {
            return not_stream();
        }
        self.shared.streams.open(&self.conversation)
    }

    async fn read(&self, body: HttpIncoming) -> Result<Incoming, Unread> {
        let all_max = self.shared.incoming(self.at().limits());
        let reading = self.shared.bodies.read(body, self.at().limits().body_bytes_max, all_max);
        let patience = self.at().limits().request_timeout;
        let whole = tokio::time::timeout(patience, reading).await;
        let whole = whole.ok().ok_or(Rejection::BodyTooSlow(patience))??;
        decode::parse(&whole, self.at().limits(), &self.at().gate.counters)
    }

    async fn one(&self, headers: &HeaderMap, message: Message, accepts: Accepts) -> HttpReply {
        let session = || self.session(headers);
        match self.conversation.message(Some(headers), message, session) {
            MessageAction::Run(call) => self.run(call, accepts).await,
            MessageAction::Initialize(request) => self.initialize(&request).await,
            MessageAction::Answer(answer) => answer.into_reply(),
            MessageAction::Cancel(_) | MessageAction::Announce | MessageAction::Accept => {
                reply::empty(StatusCode::ACCEPTED)
            }
        }
    }

    async fn initialize(&self, request: &McpRequest) -> HttpReply {
        let opened = match self.conversation.initialize(request).await {
            Ok(opened) => opened,
            Err(answer) => return answer.into_reply(),
        };
        let mut reply = reply::json_reply(StatusCode::OK, opened.text);
        if let Ok(id) = opened.id.parse() {
            reply.headers_mut().insert(SESSION, id);
        }
        reply
    }

    async fn run(&self, call: Call, accepts: Accepts) -> HttpReply {
        let streams = accepts != Accepts::Json;
        let forwarded = self.forwarded.clone();
        let max = self.at().limits().streams_max;
        let full = |session: &Arc<Session>| streams && !session.has_room_for_stream(max);
        let streams_full = call.session.as_ref().is_some_and(full);
        let arrival = self.arrival.clone();
        let call = Call { streams, streams_full, forwarded, arrival, ..call };
        let id = call.id.clone();
        let request_id = call.request;
        let method = call.method;
        let version = call.client.version;
        let session = call.session.clone().filter(|_| accepts.prefers_stream());
        match pipeline::run(self.at().clone(), call).await {
            Ok(pipeline::Reply::Answer(body)) => {
                let text = message::response(Some(&id), &body);
                let streamed =
                    session.and_then(|session| stream::single(self.at().limits(), &session, &text));
                streamed.unwrap_or_else(|| reply::json_reply(StatusCode::OK, text))
            }
            Ok(pipeline::Reply::Response(back)) => {
                stream::back(&self.at().gate, self.at().limits(), back, accepts).await
            }
            Ok(pipeline::Reply::Listen(listening)) => {
                stream::listen(self.at().limits(), *listening)
            }
            // What another login would help against is said as HTTP has it.
            Err(Fault::StepUp(demanded)) => {
                self.at().gate.counters.fault(Reason::AccessDenied);
                self.at().gate.counters.add(Counter::RefusedStepUp);
                let error = AuthError::StepUp(*demanded);
                reply::unrecognised(&error, Some(&id), &self.at().route.auth)
            }
            Err(fault) => {
                let head = RequestHead { id: &id, request: request_id, method, version };
                self.conversation.failed(&fault, head).into_reply()
            }
        }
    }

    /// A batch (2025-03-26): all at once, answered with an array in their order.
    async fn batch(&self, headers: &HeaderMap, messages: Vec<Message>) -> HttpReply {
        let session = match self.conversation.batch(self.session(headers)) {
            Ok(session) => session,
            Err(answer) => return answer.into_reply(),
        };
        let each = messages.into_iter().enumerate().map(async |(at, message)| {
            match self.conversation.legacy(&session, message) {
                MessageAction::Run(call) => {
                    let call = Call { request: call.request.nth(at), ..call };
                    let whole = self.run(call, Accepts::Json).await.into_body().collect().await;
                    whole.map(|whole| whole.to_bytes()).ok()
                }
                MessageAction::Answer(answer) => Some(answer.text),
                MessageAction::Initialize(_)
                | MessageAction::Cancel(_)
                | MessageAction::Announce
                | MessageAction::Accept => None,
            }
        });
        let answers: Vec<_> = join_all(each).await.into_iter().flatten().collect();
        match message::array(&answers) {
            Some(text) => reply::json_reply(StatusCode::OK, text),
            None => reply::empty(StatusCode::ACCEPTED),
        }
    }

    /// The stream of a session, or the rest of one that broke.
    fn get(&self, headers: &HeaderMap) -> HttpReply {
        let session = match self.session(headers) {
            Ok(session) => session,
            // The older transport alone has requests without a session, where the path says that,
            // too.
            Err(Rejection::NoSession) if self.is_older() => return self.stream(headers),
            Err(Rejection::NoSession) => return reply::not_allowed("POST"),
            Err(rejection) => return self.reject(&rejection),
        };
        if !accept::accepts_stream(headers) {
            return not_stream();
        }
        let last = accept::text(headers, &LAST_EVENT_ID);
        match last.map(str::parse::<EventId>).transpose() {
            Ok(Some(id)) if id.stream != 0 => match session.find_stream(id) {
                Some(found) => stream::resume(&session, self.at().limits(), &found, id.event),
                None => {
                    let text = "this stream is over or too old";
                    self.reject(&Rejection::Request(text.to_owned()))
                }
            },
            Ok(last) => stream::standalone(&self.conversation, &session, last),
            Err(error) => self.reject(&Rejection::Request(error.to_string())),
        }
    }

    fn delete(&self, headers: &HeaderMap) -> HttpReply {
        match self.session(headers) {
            Ok(session) => {
                self.at().gate.sessions.end(&session);
                self.at().gate.forget_session(session);
                reply::empty(StatusCode::NO_CONTENT)
            }
            Err(Rejection::NoSession) => reply::not_allowed("POST"),
            Err(rejection) => self.reject(&rejection),
        }
    }

    fn session(&self, headers: &HeaderMap) -> Result<Arc<Session>, Rejection> {
        let id = accept::text(headers, &SESSION).ok_or(Rejection::NoSession)?;
        decode::check_legacy_version(headers)?;
        let path = &self.at().route.settings.path;
        let found =
            self.at().gate.sessions.find(path, &self.conversation.caller, id, self.at().limits());
        let (session, evicted) = found.map_err(|error| {
            tracing::debug!(%error, "a session was refused");
            Rejection::UnknownSession
        })?;
        for evicted in evicted {
            self.at().gate.forget_session(evicted);
        }
        Ok(session)
    }

    fn is_older(&self) -> bool {
        self.at().route.settings.sse && self.at().route.settings.path.ends_with(events::STREAM)
    }

    fn at(&self) -> &RouteSnapshot {
        &self.conversation.at
    }

    /// Refuses what is no message yet.
    fn reject_unread(&self, unread: &Unread) -> HttpReply {
        let counters = &self.at().gate.counters;
        reply::rejected(&unread.rejection, unread.id.as_ref(), counters).into_reply()
    }

    fn reject(&self, rejection: &Rejection) -> HttpReply {
        reply::rejected(rejection, None, &self.at().gate.counters).into_reply()
    }
}

fn not_json() -> HttpReply {
    let text = "Content-Type must be application/json\n";
    reply::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

fn not_stream() -> HttpReply {
    reply::plain(StatusCode::NOT_ACCEPTABLE, "Accept must list text/event-stream\n")
}
