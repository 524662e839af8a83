//! Announces to clients what happens outside of calls, and finds which of them it is for.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    call::{
        ListKind, SessionKey, UpstreamName,
        event::{ServerNotification, ServerRequest},
    },
    mcp::{compat, message, method::Method, raw::Raw, splice},
    session::Sessions,
    telemetry::{Counter, Counters},
};

use super::{Route, Snapshot, announcement::Push};

/// Passes on a notification that belongs to no call.
pub(super) fn notice(
    snapshot: &Snapshot,
    sessions: &Sessions,
    upstream: &UpstreamName,
    session: Option<SessionKey>,
    notice: &ServerNotification,
) {
    match (notice.method, session) {
        (Some(Method::ResourceUpdated), None) => {
            let routes = snapshot.routes.values();
            for (route, member) in routes.filter_map(|route| Some((route, route.member(upstream)?)))
            {
                if let Some((uri, params)) = updated(route, upstream, notice) {
                    let upstream = Arc::clone(&member.upstream);
                    // Nobody listening is no error.
                    route.pushes.send(Push::Updated { upstream, uri, params }).ok();
                }
            }
        }
        (Some(Method::ResourceUpdated), Some(key)) => {
            let session = sessions.get(key);
            let route = session.as_ref().and_then(|session| snapshot.routes.get(&session.route));
            let lets = |uri: &str| {
                let listener = session.as_ref().and_then(|session| session.listener());
                listener.zip(session.as_ref()).zip(route).is_some_and(
                    |((caller, session), route)| route.lets_read(&caller, &session.client, uri),
                )
            };
            if let Some((uri, params)) = route.and_then(|route| updated(route, upstream, notice))
                && lets(&uri)
            {
                let text = message::notification(Method::ResourceUpdated.name(), &params);
                to_session(snapshot, sessions, key, text.bytes().clone());
            }
        }
        // A log message and the like, on a connection of one session: it is for that client.
        (_, Some(key)) => {
            let version = sessions.get(key).map(|session| session.client.version);
            let fits = |version| compat::notice(version, notice.method, &notice.whole);
            if let Some(whole) = version.and_then(fits) {
                to_session(snapshot, sessions, key, whole.bytes().clone());
            }
        }
        // On a connection that all share nobody can tell whom it is for, or who may read it.
        (_, None) => tracing::trace!(upstream = upstream.as_str(), "a notification for nobody"),
    }
}

/// Passes on a question that belongs to no call, to the client whose own connection it came on;
/// without one, or without a stream to reach it, the question is dropped, which refuses it.
pub(super) fn question(
    snapshot: &Snapshot,
    sessions: &Sessions,
    counters: &Counters,
    session: Option<SessionKey>,
    question: ServerRequest,
) {
    let Some(session) = session.and_then(|key| sessions.get(key)) else { return };
    let Some(stream) = session.listening() else { return };
    let Some(question) = question.for_version(session.client.version) else { return };
    let limits = &snapshot.config.server.limits;
    let Some(id) = session.ask(question.reply, limits.questions_max) else {
        return counters.add(Counter::RefusedQuestions);
    };
    let text = message::request(&id, &question.method, &question.params);
    stream.push(text, limits.outbox_bytes_max);
}

fn to_session(snapshot: &Snapshot, sessions: &Sessions, key: SessionKey, text: Bytes) {
    let stream = sessions.get(key).and_then(|session| session.listening());
    if let Some(stream) = stream {
        stream.push(text, snapshot.config.server.limits.outbox_bytes_max);
    }
}

/// The update in the words of a route: its clients may know the resource by another URI.
fn updated(
    route: &Route,
    upstream: &UpstreamName,
    notice: &ServerNotification,
) -> Option<(String, Raw)> {
    #[derive(serde::Deserialize)]
    struct Params {
        uri: String,
    }
    let own = notice.params.try_read::<Params>()?.uri;
    let shown = route
        .largest_view()
        .shown(ListKind::Resources, upstream, &own)
        .unwrap_or_else(|| own.clone());
    let text = Raw::encode(&shown);
    let params = splice::edit(&notice.params, &[("uri", Some(text.bytes()))]);
    Some((shown, params))
}
