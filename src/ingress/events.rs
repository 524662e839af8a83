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
    call::{Caller, RoutePath},
    mcp::message::Incoming,
};

use super::{
    channel::{ChannelSettings, ClientChannel, WriteQueue},
    conversation::Conversation,
    reply::{self, HttpReply, Rejection},
    sse,
};

/// Messages of one client that wait to be looked at; whoever posts one more waits too.
const POSTS_MAX: usize = 64;

/// The path, behind a route's, at which a stream is opened.
pub const STREAM: &str = "/sse";
/// The path, behind a route's, to which its client posts.
pub const MESSAGES: &str = "/messages";

/// The streams that are open, by their ids.
#[derive(Default)]
pub struct SseStreams(Mutex<HashMap<String, OpenStream>>);

#[derive(Clone)]
struct OpenStream {
    owner: Owner,
    inbox: mpsc::Sender<Incoming>,
}

/// The one who may post for a stream: its caller, on its route.
#[derive(Clone, PartialEq, Eq)]
struct Owner {
    route: RoutePath,
    caller: Caller,
}

impl SseStreams {
    /// Opens a stream: its first event says where to post.
    pub fn open(self: &Arc<Self>, conversation: &Conversation) -> HttpReply {
        let route = conversation.at.route.settings.path.clone();
        let caller = conversation.caller.clone();
        let owner = Owner { route: route.clone(), caller: caller.clone() };
        let (inbox, posted) = mpsc::channel(POSTS_MAX);
        // 128 bits: nobody guesses one.
        let id = format!("{:032x}", rand::random::<u128>());
        let first = sse::endpoint(&endpoint(&route, &id));
        self.0.lock().insert(id.clone(), OpenStream { owner: owner.clone(), inbox });
        let gate = Arc::clone(&conversation.at.gate);
        let peer = conversation.peer;
        let settings = ChannelSettings { gate, route, caller, peer, takes_modern: false };
        let (channel, queue) = ClientChannel::open(settings);
        conversation.at.gate.tasks.spawn("sse: receive", receive(channel, posted, owner));
        let body = StreamBody { queue, _guard: StreamGuard { streams: Arc::clone(self), id } };
        let keep_alive = conversation.at.limits().keep_alive;
        reply::event_reply(unfold((body, Some(first)), move |(mut body, first)| async move {
            if let Some(first) = first {
                return Some((first, (body, None)));
            }
            match tokio::time::timeout(keep_alive, body.queue.next()).await {
                Err(_) => Some((sse::keep_alive(), (body, None))),
                Ok(Some(text)) => Some((sse::event(None, &text), (body, None))),
                Ok(None) => None,
            }
        }))
    }

    /// Accepts what was posted for a stream of this route and this caller; it is answered there.
    pub async fn post(
        &self,
        conversation: &Conversation,
        id: &str,
        incoming: Incoming,
    ) -> HttpReply {
        let counters = &conversation.at.gate.counters;
        let reject =
            |rejection: &Rejection| reply::rejected(rejection, None, counters).into_reply();
        let Some(stream) = self.find(conversation, id) else {
            return reject(&Rejection::UnknownSession);
        };
        // Waits for a client that reads too slowly, but not for ever.
        let patience = conversation.at.limits().request_timeout;
        match tokio::time::timeout(patience, stream.inbox.send(incoming)).await {
            Ok(Ok(())) => reply::plain(StatusCode::ACCEPTED, "Accepted"),
            Ok(Err(_)) => reject(&Rejection::UnknownSession),
            Err(_) => reject(&Rejection::Overloaded),
        }
    }

    /// Tells whether there is such a stream of this route and this caller.
    pub fn has(&self, conversation: &Conversation, id: &str) -> bool {
        self.find(conversation, id).is_some()
    }

    fn find(&self, conversation: &Conversation, id: &str) -> Option<OpenStream> {
        let stream = self.0.lock().get(id).cloned()?;
        let owns = stream.owner.route == conversation.at.route.settings.path
            && stream.owner.caller == conversation.caller;
        owns.then_some(stream)
    }
}

/// The body of a stream: where the client goes away, all of it is dropped.
struct StreamBody {
    queue: WriteQueue,
    _guard: StreamGuard,
}

/// Takes a stream out of those that are open when it is dropped.
struct StreamGuard {
    streams: Arc<SseStreams>,
    id: String,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.streams.0.lock().remove(&self.id);
    }
}

/// Hands what is posted to the channel, in its order, until the stream is closed, or its caller may
/// no longer be here; when the gate closes, calls under way may end first.
async fn receive(channel: ClientChannel, mut posted: mpsc::Receiver<Incoming>, owner: Owner) {
    let gate = Arc::clone(channel.gate());
    let Owner { route, caller } = owner;
    let receiving = async {
        while let Some(incoming) = posted.recv().await {
            channel.receive(incoming).await;
        }
    };
    tokio::select! {
        // A message that was posted and not yet looked at is not begun.
        () = receiving => (),
        () = channel.closed() => (),
        () = gate.closing() => channel.finish().await,
        // The stream is the session: who may not be here any more has none.
        () = gate.wait_for_revocation(&route, &caller) => gate.log_revocation(&route, &caller),
    }
    channel.close();
}

/// The address to post to, relative to the stream's own.
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
