//! The older HTTP+SSE (2024-11-05): a stream of events is the channel, and what the client says is
//! posted beside it.
//!
//! The stream is the session: closed, it takes with it what is under way.

use std::{collections::HashMap, sync::Arc};

use futures_util::stream::unfold;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    call::Caller,
    config::Limits,
    mcp::message::Incoming,
    snapshot::{Gate, Route},
};

use super::{
    channel::{Channel, Opening, Queue},
    reply::{self, HttpReply, Refused},
    sse,
};

/// Messages of one client that wait to be looked at; whoever posts one more waits too.
const POSTS_MAX: usize = 64;

/// Where a stream is opened, behind a route's path.
pub const STREAM: &str = "/sse";
/// Where its client posts, behind a route's path.
pub const MESSAGES: &str = "/messages";

/// The streams that are open, by their ids.
#[derive(Default)]
pub struct Streams(Mutex<HashMap<String, Entry>>);

#[derive(Clone)]
struct Entry {
    route: String,
    caller: Caller,
    inbox: mpsc::Sender<Incoming>,
}

impl Streams {
    /// Opens a stream: its first event says where to post.
    pub fn open(
        self: &Arc<Self>,
        gate: &Arc<Gate>,
        route: &Route,
        caller: Caller,
        limits: &Limits,
    ) -> HttpReply {
        let path = route.settings.path.clone();
        let (inbox, posted) = mpsc::channel(POSTS_MAX);
        let entry = Entry { route: path.clone(), caller: caller.clone(), inbox };
        // 128 bits: nobody guesses one.
        let id = format!("{:032x}", rand::random::<u128>());
        let first = sse::endpoint(&endpoint(&path, &id));
        self.0.lock().insert(id.clone(), entry);
        let of = caller.clone();
        let opening = Opening { gate: Arc::clone(gate), route: path, caller, modern: false };
        let (channel, queue) = Channel::open(opening);
        gate.tasks.spawn("sse: take", take(channel, posted, (route.settings.path.clone(), of)));
        let open = Open { queue, _place: Place { streams: Arc::clone(self), id } };
        let keep_alive = limits.keep_alive;
        reply::event_reply(unfold((open, Some(first)), move |(mut open, first)| async move {
            if let Some(first) = first {
                return Some((first, (open, None)));
            }
            match tokio::time::timeout(keep_alive, open.queue.next()).await {
                Err(_) => Some((sse::keep_alive(), (open, None))),
                Ok(Some(text)) => Some((sse::event(None, &text), (open, None))),
                Ok(None) => None,
            }
        }))
    }

    /// Takes what was posted for a stream of this route and this caller; it is answered there.
    pub async fn post(
        &self,
        gate: &Gate,
        place: (&Route, &Caller),
        id: &str,
        incoming: Incoming,
        limits: &Limits,
    ) -> HttpReply {
        let refuse = |refused: &Refused| reply::refused(refused, None, &gate.counters);
        let Some(entry) = self.find(place, id) else { return refuse(&Refused::UnknownSession) };
        // Waits for a client that reads too slowly, but not for ever.
        match tokio::time::timeout(limits.request_timeout, entry.inbox.send(incoming)).await {
            Ok(Ok(())) => reply::plain(StatusCode::ACCEPTED, "Accepted"),
            Ok(Err(_)) => refuse(&Refused::UnknownSession),
            Err(_) => refuse(&Refused::Overloaded),
        }
    }

    /// Whether there is such a stream of this route and this caller.
    pub fn has(&self, place: (&Route, &Caller), id: &str) -> bool {
        self.find(place, id).is_some()
    }

    fn find(&self, (route, caller): (&Route, &Caller), id: &str) -> Option<Entry> {
        let entry = self.0.lock().get(id).cloned();
        entry.filter(|entry| entry.route == route.settings.path && entry.caller == *caller)
    }
}

/// What the body of a stream holds: dropped with it, where the client goes away.
struct Open {
    queue: Queue,
    _place: Place,
}

struct Place {
    streams: Arc<Streams>,
    id: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.streams.0.lock().remove(&self.id);
    }
}

/// Takes what is posted, in its order, until the stream is closed, or its caller may no longer be
/// here; when the gate closes, calls under way may end first.
async fn take(
    channel: Channel,
    mut posted: mpsc::Receiver<Incoming>,
    (route, caller): (String, Caller),
) {
    let gate = Arc::clone(channel.gate());
    let taking = async {
        while let Some(incoming) = posted.recv().await {
            channel.take(incoming).await;
        }
    };
    tokio::select! {
        // What was posted and not yet looked at is not begun.
        () = taking => (),
        () = channel.closed() => (),
        () = gate.closing() => channel.finish().await,
        // The stream is the session: who may not be here any more has none.
        () = gate.wait_for_revocation(&route, &caller) => gate.log_revocation(&route, &caller),
    }
    channel.close();
}

/// Where to post, relative to the stream's own address.
fn endpoint(path: &str, id: &str) -> String {
    format!("{}{MESSAGES}?session={id}", path.trim_end_matches('/'))
}

/// The id in a query.
pub fn session_of(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix("session="))
}

/// The path of the route that something stands behind: `/mcp` of `/mcp/sse`.
pub fn route_of<'a>(path: &'a str, behind: &str) -> Option<&'a str> {
    let route = path.strip_suffix(behind)?;
    Some(if route.is_empty() { "/" } else { route })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_a_route_leads_to_it() {
        assert_eq!(route_of("/mcp/sse", STREAM), Some("/mcp"));
        assert_eq!(route_of("/sse", STREAM), Some("/"));
        assert_eq!(route_of("/mcp", STREAM), None);
        assert_eq!(endpoint("/mcp", "1"), "/mcp/messages?session=1");
        assert_eq!(endpoint("/", "1"), "/messages?session=1");
        assert_eq!(session_of(Some("a=b&session=7")), Some("7"));
        assert_eq!(session_of(Some("sessions=7")), None);
    }
}
