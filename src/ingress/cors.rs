//! Cross-origin requests of pages in browsers (Fetch Standard, CORS protocol): what an origin that
//! may use the gate is told, on routes and on the metadata of logins.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};

use crate::config::Server;

use super::{
    origin,
    reply::{self, HttpReply},
};

/// Headers that clients of MCP send and scripts may not without leave.
const ALLOWED: &str = "authorization, content-type, accept, last-event-id, mcp-session-id, \
                       mcp-protocol-version, mcp-method, mcp-name, x-api-key, traceparent";
/// Headers of a reply that a client of MCP reads and scripts may not without leave.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Mcp-Session-Id, WWW-Authenticate, Retry-After, X-Request-Id");
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
/// Time for which a browser need not ask again, in seconds: what `origins` allows seldom changes.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const VARY: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);

/// The origin of a page that may use the gate.
#[derive(Debug, Clone)]
pub struct AllowedOrigin(HeaderValue);

impl AllowedOrigin {
    /// The origin that a request names, which has been checked; none where no page asks.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        headers.get(header::ORIGIN).cloned().map(Self)
    }

    /// The origin that a request names, if it may use the gate: for what is answered before
    /// anything else is looked at.
    pub fn checked<B>(server: &Server, local: SocketAddr, request: &Request<B>) -> Option<Self> {
        let origin = Self::of(request.headers())?;
        let checked = origin::check(server, local, request.headers(), request.uri());
        checked.ok().map(|()| origin)
    }

    /// Adds what lets the page read a reply.
    pub fn allow(self, reply: &mut HeaderMap) {
        reply.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0);
        reply.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Says that a reply is another one for other origins.
pub fn vary(reply: &mut HeaderMap) {
    if !reply.contains_key(header::VARY) {
        reply.insert(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// Whether a browser asks what a page may do, before it does it.
pub fn is_preflight<B>(request: &Request<B>) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Headers of a preflight that are answered for; no page sends more.
const ASKED_MAX: usize = 64;

/// The answer to a preflight. Headers that are asked for are allowed: a route may forward any.
pub fn preflight(asked: &HeaderMap) -> HttpReply {
    let mut reply = reply::empty(StatusCode::NO_CONTENT);
    let headers = reply.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(header::VARY, VARY);
    let wished = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let wished = wished.and_then(|wished| wished.to_str().ok()).unwrap_or_default();
    let wished = wished.split(',').filter_map(|name| name.trim().parse::<HeaderName>().ok());
    let more = wished.filter(|name| !ALLOWED.split(", ").any(|known| known == name.as_str()));
    let mut all = ALLOWED.to_owned();
    for name in more.take(ASKED_MAX) {
        all.push_str(", ");
        all.push_str(name.as_str());
    }
    if let Ok(all) = all.parse() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, all);
    }
    reply
}
