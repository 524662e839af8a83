//! What is announced to clients outside of calls, and which of them it is for.

use bytes::Bytes;

use crate::{
    call::{
        ListKind, SessionKey,
        event::{Notice, Question},
    },
    mcp::{level, message, method::Method, raw::Raw, splice},
    session::Sessions,
};

use super::{Route, Snapshot};

/// One announcement on a route.
#[derive(Debug, Clone)]
pub enum Push {
    /// A list changed.
    Changed(Method),
    /// A resource was updated, by the URI that clients know.
    Updated { uri: String, params: Raw },
    /// A log message of no call, by the rank of its level: for sessions that set one.
    Log { rank: usize, text: Bytes },
}

/// Passes on a notification that belongs to no call.
pub(super) fn notice(
    snapshot: &Snapshot,
    sessions: &Sessions,
    upstream: &str,
    session: Option<SessionKey>,
    notice: &Notice,
) {
    match (notice.method, session) {
        (Some(Method::ResourceUpdated), _) => {
            let routes = snapshot.routes.values().filter(|route| route.member(upstream).is_some());
            for route in routes {
                if let Some(push) = updated(route, upstream, notice) {
                    // Nobody listening is no error.
                    route.pushes.send(push).ok();
                }
            }
        }
        (Some(Method::LogMessage), None) => {
            let rank = splice::member(&notice.params, "level")
                .and_then(|level| level.try_read::<String>());
            let rank = rank.and_then(|level| level::rank(&level)).unwrap_or(0);
            let push = Push::Log { rank, text: notice.whole.bytes().clone() };
            for route in snapshot.routes.values().filter(|route| route.member(upstream).is_some()) {
                route.pushes.send(push.clone()).ok();
            }
        }
        // A log message and the like, on a connection of one session: it is for that client.
        (_, Some(key)) => to_session(snapshot, sessions, key, notice.whole.bytes().clone()),
        // On a connection that all share nobody can tell whom it is for.
        (_, None) => tracing::trace!(upstream, "a notification for nobody"),
    }
}

/// Passes on a question that belongs to no call, to the client whose own connection it came on;
/// without one, or without a stream to reach it, the question is dropped, which refuses it.
pub(super) fn question(
    snapshot: &Snapshot,
    sessions: &Sessions,
    session: Option<SessionKey>,
    question: Question,
) {
    let Some(session) = session.and_then(|key| sessions.get(key)) else { return };
    let Some(stream) = session.listening() else { return };
    let id = session.ask(question.reply);
    let text = message::request(&id, &question.method, &question.params);
    stream.push(text, snapshot.config.server.limits.outbox_bytes_max);
}

fn to_session(snapshot: &Snapshot, sessions: &Sessions, key: SessionKey, text: Bytes) {
    let stream = sessions.get(key).and_then(|session| session.listening());
    if let Some(stream) = stream {
        stream.push(text, snapshot.config.server.limits.outbox_bytes_max);
    }
}

/// The update in the words of a route: its clients may know the resource by another URI.
fn updated(route: &Route, upstream: &str, notice: &Notice) -> Option<Push> {
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
    Some(Push::Updated { uri: shown, params })
}
