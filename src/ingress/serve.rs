//! One HTTP request: refused, answered, or turned into a call.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Method as Verb, Request, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming as HttpIncoming;

use crate::{
    call::{Caller, SessionKey},
    config::Limits,
    mcp::{
        id::Id,
        message::{self, Bounds, Incoming, Message, Notification, Request as McpRequest},
        meta::Meta,
        method::Method,
        raw::{Malformed, Raw},
        splice,
        version::{Era, Version},
    },
    pipeline::{self, Call, Fault},
    session::{Session, outbox::EventId},
    snapshot::{Gate, Route},
    telemetry::Counter,
};

use super::{
    decode, guard,
    reply::{self, HttpReply, Refused, SESSION},
    stream,
};

const LAST_EVENT_ID: &str = "last-event-id";

/// Answers one request.
pub async fn serve(
    gate: Arc<Gate>,
    local: SocketAddr,
    caller: Caller,
    request: Request<HttpIncoming>,
) -> HttpReply {
    gate.counters.add(Counter::Requests);
    let snapshot = gate.snapshot();
    let server = &snapshot.config.server;
    if let Err(refusal) = guard::check(server, local, request.headers(), request.uri()) {
        gate.counters.add(match refusal {
            guard::Refusal::Host => Counter::RefusedHost,
            guard::Refusal::Origin => Counter::RefusedOrigin,
        });
        return reply::plain(StatusCode::FORBIDDEN, format!("{refusal}\n"));
    }
    let path = request.uri().path();
    let Some(route) = snapshot.routes.get(path).map(Arc::clone) else {
        return match path {
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
    };
    let door = Door { gate, route, caller, limits: server.limits.clone() };
    match *request.method() {
        Verb::POST => door.post(request).await,
        Verb::GET => door.get(request.headers()),
        Verb::DELETE => door.delete(request.headers()),
        _ => reply::not_allowed("GET, POST, DELETE"),
    }
}

/// What a client takes for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Json,
    Both,
    /// It names the stream first.
    StreamRather,
}

/// A route with what is needed to answer on it.
struct Door {
    gate: Arc<Gate>,
    route: Arc<Route>,
    caller: Caller,
    limits: Limits,
}

impl Door {
    async fn post(&self, request: Request<HttpIncoming>) -> HttpReply {
        let (parts, body) = request.into_parts();
        if !is_json(&parts.headers) {
            return reply::plain(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Type must be application/json\n",
            );
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

    async fn read(&self, body: HttpIncoming) -> Result<Incoming, Refused> {
        let max = self.limits.body_bytes_max;
        let patience = self.limits.request_timeout;
        let whole = tokio::time::timeout(patience, Limited::new(body, max).collect()).await;
        let whole: Bytes = match whole.ok().ok_or(Refused::BodyTooSlow(patience))? {
            Ok(whole) => whole.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(Refused::BodyTooLarge(max)),
            Err(error) => return Err(Refused::Request(format!("the body broke off: {error}"))),
        };
        let bounds = Bounds { depth_max: self.limits.depth_max, batch_max: self.limits.batch_max };
        Incoming::parse(&whole, bounds).map_err(|error| {
            self.gate.counters.add(match error {
                Malformed::TooDeep(_) => Counter::RefusedDepth,
                Malformed::Json(_) | Malformed::Shape(_) => Counter::RefusedMalformed,
            });
            match error {
                Malformed::Json(_) => Refused::Parse(error.to_string()),
                Malformed::TooDeep(_) | Malformed::Shape(_) => Refused::Request(error.to_string()),
            }
        })
    }

    async fn one(&self, headers: &HeaderMap, message: Message, takes: Takes) -> HttpReply {
        match (decode::era_of(headers, &message), message) {
            (Era::Modern, Message::Request(request)) => self.modern(headers, request, takes).await,
            // There is nothing that a modern client could tell this way; cancelling is closing the
            // stream.
            (Era::Modern, Message::Notification(notification)) => {
                match decode::notified(headers, &notification) {
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
        let decoded = match decode::modern(headers, &request) {
            Ok(decoded) => decoded,
            Err(refused) => return self.refuse(&refused, Some(&request.id)),
        };
        let call = Call {
            id: request.id,
            method: decoded.method,
            params: request.params,
            named: decoded.named,
            meta: decoded.meta,
            caller: self.caller.clone(),
            client: decoded.client,
            session: None,
            streams: takes != Takes::Json,
            mirrored: Some(decoded.mirrored),
        };
        self.run(call, takes).await
    }

    async fn initialize(&self, request: &McpRequest) -> HttpReply {
        let client = match pipeline::negotiate(&request.params) {
            Ok(client) => client,
            Err(fault) => {
                let (status, body) =
                    reply::fault(&fault, Method::Initialize, Version::LEGACY_LATEST);
                return reply::json_reply(status, message::response(Some(&request.id), &body));
            }
        };
        let (_, id, body) = pipeline::initialize(&self.gate, &self.route, client).await;
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
                match legacy_call(self.caller.clone(), session, request, takes) {
                    Ok(call) => self.run(call, takes).await,
                    Err(reply) => *reply,
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
        let (id, method, version) = (call.id.clone(), call.method, call.client.version);
        let session = call.session.clone().filter(|_| takes == Takes::StreamRather);
        // Boxed: the way is large, and everything up to the connection would hold it inside.
        match Box::pin(pipeline::run(&self.gate, &self.route, call)).await {
            Ok(pipeline::Reply::Answer(body)) => {
                let text = message::response(Some(&id), &body);
                let streamed =
                    session.and_then(|session| stream::single(&self.limits, &session, &text));
                streamed.unwrap_or_else(|| reply::json_reply(StatusCode::OK, text))
            }
            Ok(pipeline::Reply::Back(back)) => {
                stream::back(&self.gate, &self.limits, back, takes != Takes::Json).await
            }
            Ok(pipeline::Reply::Listen(listening)) => stream::listen(&self.limits, *listening),
            Err(fault) => {
                let (status, body) = reply::fault(&fault, method, version);
                reply::json_reply(status, message::response(Some(&id), &body))
            }
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
        match Method::notification(&notification.method) {
            Some(Method::Cancelled) => {
                let member = |key| splice::member(&notification.params, key);
                let reason = member("reason").and_then(|reason| reason.try_read());
                if let Some(id) = member("requestId").and_then(|id| Id::new(id).ok()) {
                    session.cancel(&id, reason);
                }
            }
            Some(method @ Method::RootsListChanged) => {
                self.pass_on(session.key, method, notification.params.clone());
            }
            _ => (),
        }
    }

    /// Tells all upstreams at once; the client waits for none of them.
    fn pass_on(&self, key: SessionKey, method: Method, params: Raw) {
        let route = Arc::clone(&self.route);
        self.gate.tasks.spawn("session: pass on", async move {
            let members = route.members.iter();
            join_all(members.map(|member| member.upstream.notify(key, method, &params))).await;
        });
    }

    /// The stream of a session, or the rest of one that broke.
    fn get(&self, headers: &HeaderMap) -> HttpReply {
        let session = match self.session(headers) {
            Ok(session) => session,
            Err(Refused::NoSession) => return reply::not_allowed("POST"),
            Err(refused) => return self.refuse(&refused, None),
        };
        if !text_of(headers, header::ACCEPT.as_str())
            .is_none_or(|kinds| takes(&kinds, "text/event-stream"))
        {
            return reply::plain(
                StatusCode::NOT_ACCEPTABLE,
                "Accept must list text/event-stream\n",
            );
        }
        let last = text_of(headers, LAST_EVENT_ID);
        match last.as_deref().map(str::parse::<EventId>).transpose() {
            Ok(Some(id)) if id.stream != 0 => match session.find_stream(id) {
                Some(found) => stream::resume(&session, &self.limits, &found, id.event),
                None => self
                    .refuse(&Refused::Request("this stream is over or too old".to_owned()), None),
            },
            Ok(last) => stream::standalone(&self.gate, &self.route, &self.limits, &session, last),
            Err(error) => self.refuse(&Refused::Request(error.to_string()), None),
        }
    }

    fn delete(&self, headers: &HeaderMap) -> HttpReply {
        match self.session(headers) {
            Ok(session) => {
                self.gate.sessions.end(&session);
                self.gate.forget_session(session);
                reply::empty(StatusCode::NO_CONTENT)
            }
            Err(Refused::NoSession) => reply::not_allowed("POST"),
            Err(refused) => self.refuse(&refused, None),
        }
    }

    fn session(&self, headers: &HeaderMap) -> Result<Arc<Session>, Refused> {
        let id = text_of(headers, SESSION.as_str()).ok_or(Refused::NoSession)?;
        decode::check_legacy_version(headers)?;
        let found = self.gate.sessions.find(&self.route.settings.path, &id, &self.limits);
        let (session, evicted) = found.map_err(|error| {
            tracing::debug!(%error, "a session was refused");
            Refused::UnknownSession
        })?;
        for evicted in evicted {
            self.gate.forget_session(evicted);
        }
        Ok(session)
    }

    fn refuse(&self, refused: &Refused, id: Option<&Id>) -> HttpReply {
        match refused {
            Refused::BodyTooLarge(_) => self.gate.counters.add(Counter::RefusedBodyBytes),
            Refused::BodyTooSlow(_) => self.gate.counters.add(Counter::RefusedSlow),
            Refused::Header(_) | Refused::Meta(_) | Refused::Version(_) => {
                self.gate.counters.add(Counter::RefusedHeaders);
            }
            Refused::NoSession | Refused::UnknownSession => {
                self.gate.counters.add(Counter::RefusedSession)
            }
            Refused::Parse(_)
            | Refused::Request(_)
            | Refused::UnknownMethod(_)
            | Refused::Overloaded => (),
        }
        reply::refused(refused, id)
    }
}

fn legacy_call(
    caller: Caller,
    session: Arc<Session>,
    request: McpRequest,
    takes: Takes,
) -> Result<Call, Box<HttpReply>> {
    let McpRequest { id, method: name, params } = request;
    let decoded = Method::request(&name).ok_or(Fault::UnknownMethod(name)).and_then(|method| {
        let invalid = |error: &dyn std::fmt::Display| Fault::Invalid(error.to_string());
        let named = decode::named(method, &params).map_err(|error| invalid(&error))?;
        let meta = Meta::of(&params).map_err(|error| invalid(&error))?;
        Ok((method, named, meta))
    });
    match decoded {
        Ok((method, named, meta)) => {
            let client = Arc::clone(&session.client);
            let session = Some(session);
            let streams = takes != Takes::Json;
            let mirrored = None;
            Ok(Call { id, method, params, named, meta, caller, client, session, streams, mirrored })
        }
        Err(fault) => {
            // Which method it is matters only once it has been sent.
            let (status, body) = reply::fault(&fault, Method::Ping, session.client.version);
            Err(Box::new(reply::json_reply(status, message::response(Some(&id), &body))))
        }
    }
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
