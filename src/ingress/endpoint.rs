//! Resolves a path of the listener: to a route, to a part of one, or to a page of the gate's own.

use std::sync::Arc;

use http::{Method, StatusCode};

use crate::{
    auth::{self, WELL_KNOWN},
    snapshot::{Gate, Readiness, Route, Snapshot},
};

use super::{
    events,
    reply::{self, HttpReply},
};

/// The part of a route that a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteEndpoint {
    /// Streamable HTTP.
    Route,
    /// The stream of the older HTTP+SSE.
    Stream,
    /// The address to which a client of the older HTTP+SSE posts.
    Messages,
}

/// Finds the route of this very path, else the one that this path stands behind; else that of the
/// path without the slash at its end: clients and proxies add one, and a client with a session
/// would take a 404 for the end of that. No route's own path ends with one.
pub fn find(snapshot: &Snapshot, path: &str) -> Option<(Arc<Route>, RouteEndpoint)> {
    let bare = || find_exactly(snapshot, path.strip_suffix('/')?);
    find_exactly(snapshot, path).or_else(bare)
}

fn find_exactly(snapshot: &Snapshot, path: &str) -> Option<(Arc<Route>, RouteEndpoint)> {
    if let Some(route) = snapshot.routes.get(path) {
        return Some((Arc::clone(route), RouteEndpoint::Route));
    }
    let endpoints =
        [(events::STREAM, RouteEndpoint::Stream), (events::MESSAGES, RouteEndpoint::Messages)];
    let found = endpoints.into_iter().find_map(|(behind, endpoint)| {
        Some((snapshot.routes.get(events::route_of(path, behind)?)?, endpoint))
    });
    let (route, endpoint) = found.filter(|(route, _)| route.settings.sse)?;
    Some((Arc::clone(route), endpoint))
}

/// Whether a path is of the metadata of logins.
pub fn is_metadata(path: &str) -> bool {
    path.starts_with(WELL_KNOWN)
}

/// The reply at a path that is no route's.
pub fn elsewhere(gate: &Gate, snapshot: &Snapshot, path: &str, verb: &Method) -> HttpReply {
    match path {
        _ if is_metadata(path) => metadata(snapshot, path, verb),
        "/livez" => reply::plain(StatusCode::OK, "alive\n"),
        "/readyz" => readiness(gate),
        _ => reply::plain(
            StatusCode::NOT_FOUND,
            "no route has this path: see [routes] in routes.toml\n",
        ),
    }
}

/// Tells a balancer in one word; what is the matter in detail is for operators (`admin`).
fn readiness(gate: &Gate) -> HttpReply {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match gate.readiness() {
        Readiness::Ready => reply::plain(StatusCode::OK, "ready\n"),
        Readiness::Starting => reply::plain(unavailable, "starting\n"),
        Readiness::Stopping => reply::plain(unavailable, "stopping\n"),
        Readiness::Unrecorded(_) => reply::plain(unavailable, "calls cannot be recorded\n"),
    }
}

/// Metadata on how clients log in at a route (RFC 9728 §3), whose path stands behind the
/// well-known one; without it the first route is meant that has such metadata.
fn metadata(snapshot: &Snapshot, path: &str, verb: &Method) -> HttpReply {
    if verb != Method::GET && verb != Method::HEAD {
        return reply::not_allowed("GET");
    }
    let of = path.strip_prefix(WELL_KNOWN).unwrap_or_default().trim_end_matches('/');
    let routes = snapshot.config.routes.iter();
    let logins = routes.filter_map(|route| Some(&snapshot.routes.get(&route.path)?.auth));
    let own =
        logins.clone().find(|login| login.path() == Some(of)).and_then(auth::RouteAuth::metadata);
    let first =
        || of.is_empty().then(|| logins.clone().find_map(auth::RouteAuth::metadata)).flatten();
    match own.or_else(first) {
        Some(metadata) => reply::json_reply(StatusCode::OK, metadata.to_string().into()),
        None => reply::plain(StatusCode::NOT_FOUND, "no client can log in here by itself\n"),
    }
}
