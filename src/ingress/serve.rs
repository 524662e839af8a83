//! One HTTP request: refused, answered, or turned into a call.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::join_all;
use http::{HeaderMap, Method as Verb, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming as HttpIncoming;

use crate::{
    auth::{self, AuthError, ClientPeer, WELL_KNOWN},
    call::Caller,
    mcp::{
        id::Id,
        message::{self, Incoming, Message, Notification, Request as McpRequest},
        method::Method,
        version::{Era, Version},
    },
    pipeline::{self, Call, Fault},
    session::{Session, outbox::EventId},
    snapshot::{Gate, Route, RouteSnapshot, Snapshot},
    telemetry::{Counter, Reason},
};

use super::{
    decode, events, forwarded, guard,
    notice::{self, Notice},
    reply::{self, HttpReply, Refused, SESSION},
    shared::{Served, Shared},
    stream::{self, Takes},
};

const LAST_EVENT_ID: &str = "last-event-id";

/// Answers one request.
pub async fn serve(
    gate: Arc<Gate>,
    shared: Arc<Shared>,
    local: SocketAddr,
    mut peer: ClientPeer,
    request: Request<HttpIncoming>,
) -> Served {
    gate.counters.add(Counter::Requests);
    let snapshot = gate.snapshot();
    let server = &snapshot.config.server;
    peer.address = forwarded::client(peer.address, &server.trusted_proxies, request.headers());
    if let Err(refusal) = guard::check(server, local, request.headers(), request.uri()) {
        gate.counters.add(match refusal {
            guard::Refusal::Host => Counter::RefusedHost,
            guard::Refusal::Origin => Counter::RefusedOrigin,
        });
        return reply::plain(StatusCode::FORBIDDEN, format!("{refusal}\n")).into();
    }
    let path = request.uri().path();
    let Some((route, place)) = find(&snapshot, path) else {
        let reply = match path {
            _ if path.starts_with(WELL_KNOWN) => metadata(&snapshot, path, request.method()),
            "/livez" => reply::plain(StatusCode::OK, "alive\n"),
            "/readyz" if gate.is_closing() => {
                reply::plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
            }
            "/readyz" => reply::plain(StatusCode::OK, "ready\n"),
            _ => reply::plain(
                StatusCode::NOT_FOUND,
                "no route has this path: see [routes] in routes.toml\n",
            ),
        };
        return reply.into();
    };
    let caller = match recognised(&route, &peer, request.headers()).await {
        Ok(caller) => caller,
        Err(error) => return reply::unrecognised(&error, None, &route.auth).into(),
    };
    let forwarded = route.forwarded(request.headers()).map(Arc::new);
    let at = RouteSnapshot { gate, snapshot, route };
    let door = Door { at, shared, caller, forwarded };
    let reply = match (place, request.method()) {
        // Boxed: large.
        (Place::Route, &Verb::POST) => Box::pin(door.post(request)).await,
        (Place::Route, &Verb::GET) => door.get(request.headers()),
        (Place::Route, &Verb::DELETE) => door.delete(request.headers()),
        (Place::Route, _) => reply::not_allowed("GET, POST, DELETE"),
        (Place::Stream, &Verb::GET) => door.stream(request.headers()),
        // A client that tries Streamable HTTP first learns so that it is the older one here.
        (Place::Stream, _) => reply::not_allowed("GET"),
        (Place::Messages, &Verb::POST) => door.message(request).await,
        (Place::Messages, _) => reply::not_allowed("POST"),
    };
    door.shared.served(reply, &door.caller)
}

/// Who calls, where the route wants to know that.
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

/// How clients log in at a route (RFC 9728 §3): its path stands behind the well-known one; without
/// it the first is meant that there is something to say of.
fn metadata(snapshot: &Snapshot, path: &str, verb: &Verb) -> HttpReply {
    if verb != Verb::GET && verb != Verb::HEAD {
        return reply::not_allowed("GET");
    }
    let of = path.strip_prefix(WELL_KNOWN).unwrap_or_default().trim_end_matches('/');
    let routes = snapshot.config.routes.iter();
    let doors = routes.filter_map(|route| Some(&snapshot.routes.get(&route.path)?.auth));
    let own =
        doors.clone().find(|door| door.path() == Some(of)).and_then(auth::RouteAuth::metadata);
    let first =
        || of.is_empty().then(|| doors.clone().find_map(auth::RouteAuth::metadata)).flatten();
    match own.or_else(first) {
        Some(metadata) => reply::json_reply(StatusCode::OK, metadata.to_string().into()),
        None => reply::plain(StatusCode::NOT_FOUND, "no client can log in here by itself\n"),
    }
}

/// What of a route a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Route,
    /// The older HTTP+SSE.
    Stream,
    Messages,
}

/// A route of this very path, else one that this path stands behind.
fn find(snapshot: &Snapshot, path: &str) -> Option<(Arc<Route>, Place)> {
    if let Some(route) = snapshot.routes.get(path) {
        return Some((Arc::clone(route), Place::Route));
    }
    let places = [(events::STREAM, Place::Stream), (events::MESSAGES, Place::Messages)];
    let found = places.into_iter().find_map(|(behind, place)| {
        Some((snapshot.routes.get(events::route_of(path, behind)?)?, place))
    });
    let (route, place) = found.filter(|(route, _)| route.settings.sse)?;
    Some((Arc::clone(route), place))
}

/// A route with what is needed to answer on it.
struct Door {
    /// What the request is served with: loaded once, when it began.
    at: RouteSnapshot,
    shared: Arc<Shared>,
    caller: Caller,
    /// What of the request's headers upstreams are to have.
    forwarded: Option<Arc<HeaderMap>>,
}

impl Door {
    async fn post(&self, request: Request<HttpIncoming>) -> HttpReply {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return not_json();
        }
        let Some(takes) = accepts(&parts.headers) else {
            return reply::plain(
                StatusCode::NOT_ACCEPTABLE,
                "Accept must list application/json and text/event-stream\n",
            );
        };
        let incoming = match self.read(body).await {
            Ok(incoming) => incoming,
            Err(refused) => return self.refuse(&refused, None),
        };
        match incoming {
            Incoming::One(message) => self.one(&parts.headers, message, takes).await,
            Incoming::Batch(messages) => self.batch(&parts.headers, messages).await,
        }
    }

    /// A message posted for a stream of the older HTTP+SSE.
    async fn message(&self, request: Request<HttpIncoming>) -> HttpReply {
        let (parts, body) = request.into_parts();
        let place = (&*self.at.route, &self.caller);
        let id = events::session_of(parts.uri.query()).unwrap_or_default();
        // Before the body is read: it is of nobody.
        if !self.shared.streams.has(place, id) {
            return self.refuse(&Refused::UnknownSession, None);
        }
        if !is_json(&parts.headers) {
            return not_json();
        }
        match self.read(body).await {
            Ok(incoming) => {
                self.shared.streams.post(&self.at.gate, place, id, incoming, self.at.limits()).await
            }
            Err(refused) => self.refuse(&refused, None),
        }
    }

    /// The stream of the older HTTP+SSE.
    fn stream(&self, headers: &HeaderMap) -> HttpReply {
        if !takes_stream(headers) {
            return not_stream();
        }
        self.shared.streams.open(
            &self.at.gate,
            &self.at.route,
            self.caller.clone(),
            self.at.limits(),
        )
    }

    async fn read(&self, body: HttpIncoming) -> Result<Incoming, Refused> {
        let all_max = self.shared.incoming(self.at.limits());
        let reading = self.shared.intake.read(body, self.at.limits().body_bytes_max, all_max);
        let patience = self.at.limits().request_timeout;
        let whole = tokio::time::timeout(patience, reading).await;
        let whole = whole.ok().ok_or(Refused::BodyTooSlow(patience))??;
        decode::parse(&whole, self.at.limits(), &self.at.gate.counters)
    }

    async fn one(&self, headers: &HeaderMap, message: Message, takes: Takes) -> HttpReply {
        match (decode::era_of(Some(headers), &message), message) {
            (Era::Modern, Message::Request(request)) => self.modern(headers, request, takes).await,
            // There is nothing that a modern client could tell this way; cancelling is closing the
            // stream.
            (Era::Modern, Message::Notification(notification)) => {
                match decode::notified(Some(headers), &notification) {
                    Ok(()) => reply::empty(StatusCode::ACCEPTED),
                    Err(refused) => self.refuse(&refused, None),
                }
            }
            (Era::Modern, Message::Response(response)) => {
                let refused = Refused::Request("a modern client sends no responses".to_owned());
                self.refuse(&refused, response.id.as_ref())
            }
            (Era::Legacy, Message::Request(request)) if &*request.method == "initialize" => {
                self.initialize(&request).await
            }
            (Era::Legacy, message) => {
                let id = match &message {
                    Message::Request(request) => Some(request.id.clone()),
                    Message::Notification(_) | Message::Response(_) => None,
                };
                match self.session(headers) {
                    Ok(session) => self.legacy(session, message, takes).await,
                    Err(refused) => self.refuse(&refused, id.as_ref()),
                }
            }
        }
    }

    async fn modern(&self, headers: &HeaderMap, request: McpRequest, takes: Takes) -> HttpReply {
        match decode::modern(Some(headers), self.caller.clone(), request) {
            Ok(call) => self.run(call, takes).await,
            Err(refused) => self.refuse(&refused.1, Some(&refused.0)),
        }
    }

    fn failed(&self, fault: &Fault, call: (&Id, Method, Version)) -> HttpReply {
        reply::failed(fault, call, &self.at.gate.counters)
    }

    async fn initialize(&self, request: &McpRequest) -> HttpReply {
        let client = match pipeline::negotiate(&request.params) {
            Ok(client) => client,
            Err(fault) => {
                let (method, version) = (Method::Initialize, Version::LEGACY_LATEST);
                return self.failed(&fault, (&request.id, method, version));
            }
        };
        let version = client.version;
        let opened = pipeline::initialize(self.at.clone(), &self.caller, client).await;
        let (_, id, body) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                return self.failed(&fault, (&request.id, Method::Initialize, version));
            }
        };
        let mut reply =
            reply::json_reply(StatusCode::OK, message::response(Some(&request.id), &body));
        if let Ok(id) = id.parse() {
            reply.headers_mut().insert(SESSION, id);
        }
        reply
    }

    async fn legacy(&self, session: Arc<Session>, message: Message, takes: Takes) -> HttpReply {
        match message {
            Message::Request(request) => {
                let version = session.client.version;
                match decode::legacy(session, self.caller.clone(), request) {
                    Ok(call) => self.run(call, takes).await,
                    Err(refused) => {
                        let (id, fault) = *refused;
                        // Which method it is matters only once it has been sent.
                        self.failed(&fault, (&id, Method::Ping, version))
                    }
                }
            }
            Message::Notification(notification) => {
                self.notified(&session, &notification);
                reply::empty(StatusCode::ACCEPTED)
            }
            Message::Response(response) => {
                if let Some(id) = &response.id {
                    // One that nobody waits for any more is taken and forgotten.
                    session.answer(id, response.body);
                }
                reply::empty(StatusCode::ACCEPTED)
            }
        }
    }

    async fn run(&self, call: Call, takes: Takes) -> HttpReply {
        let (streams, forwarded) = (takes != Takes::Json, self.forwarded.clone());
        let max = self.at.limits().streams_max;
        let full = |session: &Arc<Session>| streams && !session.has_room_for_stream(max);
        let streams_full = call.session.as_ref().is_some_and(full);
        let call = Call { streams, streams_full, forwarded, ..call };
        let (id, method, version) = (call.id.clone(), call.method, call.client.version);
        let session = call.session.clone().filter(|_| takes == Takes::StreamRather);
        // Boxed: the way is large, and everything up to the connection would hold it inside.
        match Box::pin(pipeline::run(self.at.clone(), call)).await {
            Ok(pipeline::Reply::Answer(body)) => {
                let text = message::response(Some(&id), &body);
                let streamed =
                    session.and_then(|session| stream::single(self.at.limits(), &session, &text));
                streamed.unwrap_or_else(|| reply::json_reply(StatusCode::OK, text))
            }
            Ok(pipeline::Reply::Back(back)) => {
                stream::back(&self.at.gate, self.at.limits(), back, takes).await
            }
            Ok(pipeline::Reply::Listen(listening)) => stream::listen(self.at.limits(), *listening),
            // What another login would help against is said as HTTP has it.
            Err(Fault::StepUp(demanded)) => {
                self.at.gate.counters.fault(Reason::AccessDenied);
                self.at.gate.counters.add(Counter::RefusedStepUp);
                let error = AuthError::StepUp(*demanded);
                reply::unrecognised(&error, Some(&id), &self.at.route.auth)
            }
            Err(fault) => self.failed(&fault, (&id, method, version)),
        }
    }

    /// A batch (2025-03-26): all at once, answered with an array in their order.
    async fn batch(&self, headers: &HeaderMap, messages: Vec<Message>) -> HttpReply {
        let session = match self.session(headers) {
            Ok(session) if session.client.version.has_batches() => session,
            Ok(_) | Err(Refused::NoSession) => {
                let text = "batches exist in sessions of version 2025-03-26 only";
                return self.refuse(&Refused::Request(text.to_owned()), None);
            }
            Err(refused) => return self.refuse(&refused, None),
        };
        let each = messages.into_iter().map(async |message| {
            // `initialize` must not be batched: in a session it is an unknown request.
            let reply = self.legacy(Arc::clone(&session), message, Takes::Json).await;
            let whole = reply.into_body().collect().await;
            whole.map(|whole| whole.to_bytes()).unwrap_or_default()
        });
        let mut answers = join_all(each).await;
        answers.retain(|answer| !answer.is_empty());
        if answers.is_empty() {
            return reply::empty(StatusCode::ACCEPTED);
        }
        let text = [&b"["[..], &answers.join(&b','), b"]"].concat();
        reply::json_reply(StatusCode::OK, text.into())
    }

    fn notified(&self, session: &Arc<Session>, notification: &Notification) {
        match notice::read(notification) {
            Notice::Cancelled { id, reason } => {
                session.cancel(&id, reason);
            }
            Notice::PassedOn(method) => {
                let params = notification.params.clone();
                notice::pass_on(&self.at, session.key, method, params);
            }
            Notice::Initialized | Notice::Other => (),
        }
    }

    /// The stream of a session, or the rest of one that broke.
    fn get(&self, headers: &HeaderMap) -> HttpReply {
        let session = match self.session(headers) {
            Ok(session) => session,
            // Without a session it can only be the older transport, where the path says that, too.
            Err(Refused::NoSession) if self.is_older() => return self.stream(headers),
            Err(Refused::NoSession) => return reply::not_allowed("POST"),
            Err(refused) => return self.refuse(&refused, None),
        };
        if !takes_stream(headers) {
            return not_stream();
        }
        let last = text_of(headers, LAST_EVENT_ID);
        match last.as_deref().map(str::parse::<EventId>).transpose() {
            Ok(Some(id)) if id.stream != 0 => match session.find_stream(id) {
                Some(found) => stream::resume(&session, self.at.limits(), &found, id.event),
                None => self
                    .refuse(&Refused::Request("this stream is over or too old".to_owned()), None),
            },
            Ok(last) => {
                let who = (&session, &self.caller);
                stream::standalone(&self.at.gate, &self.at.route, self.at.limits(), who, last)
            }
            Err(error) => self.refuse(&Refused::Request(error.to_string()), None),
        }
    }

    fn delete(&self, headers: &HeaderMap) -> HttpReply {
        match self.session(headers) {
            Ok(session) => {
                self.at.gate.sessions.end(&session);
                self.at.gate.forget_session(session);
                reply::empty(StatusCode::NO_CONTENT)
            }
            Err(Refused::NoSession) => reply::not_allowed("POST"),
            Err(refused) => self.refuse(&refused, None),
        }
    }

    fn session(&self, headers: &HeaderMap) -> Result<Arc<Session>, Refused> {
        let id = text_of(headers, SESSION.as_str()).ok_or(Refused::NoSession)?;
        decode::check_legacy_version(headers)?;
        let path = &self.at.route.settings.path;
        let found = self.at.gate.sessions.find(path, &self.caller, &id, self.at.limits());
        let (session, evicted) = found.map_err(|error| {
            tracing::debug!(%error, "a session was refused");
            Refused::UnknownSession
        })?;
        for evicted in evicted {
            self.at.gate.forget_session(evicted);
        }
        Ok(session)
    }

    fn is_older(&self) -> bool {
        self.at.route.settings.sse && self.at.route.settings.path.ends_with(events::STREAM)
    }

    fn refuse(&self, refused: &Refused, id: Option<&Id>) -> HttpReply {
        reply::refused(refused, id, &self.at.gate.counters)
    }
}

fn not_json() -> HttpReply {
    let text = "Content-Type must be application/json\n";
    reply::plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
}

fn not_stream() -> HttpReply {
    reply::plain(StatusCode::NOT_ACCEPTABLE, "Accept must list text/event-stream\n")
}

fn takes_stream(headers: &HeaderMap) -> bool {
    let kinds = text_of(headers, header::ACCEPT.as_str());
    kinds.is_none_or(|kinds| takes(&kinds, "text/event-stream"))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = text_of(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// What the client takes; none where that is neither JSON nor a stream. Forgiving: no `Accept`
/// takes all.
fn accepts(headers: &HeaderMap) -> Option<Takes> {
    let Some(kinds) = text_of(headers, header::ACCEPT.as_str()) else { return Some(Takes::Both) };
    match (takes(&kinds, "application/json"), takes(&kinds, "text/event-stream")) {
        (false, false) => None,
        (true, false) => Some(Takes::Json),
        (false, true) => Some(Takes::StreamRather),
        (true, true) => {
            let first = kinds.split([',', ';']).next().unwrap_or_default();
            let rather = first.trim().eq_ignore_ascii_case("text/event-stream");
            Some(if rather { Takes::StreamRather } else { Takes::Both })
        }
    }
}

fn takes(kinds: &str, wanted: &str) -> bool {
    let family = wanted.split('/').next().unwrap_or_default();
    kinds.split(',').filter_map(|kind| kind.split(';').next()).any(|kind| {
        let kind = kind.trim();
        kind.eq_ignore_ascii_case(wanted)
            || kind == "*/*"
            || kind.strip_suffix("/*") == Some(family)
    })
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
