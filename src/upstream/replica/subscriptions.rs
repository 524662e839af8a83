//! Subscriptions of clients on a connection that all share: counted, asked for once, asked again
//! after a re-opening.
//!
//! Clients only change the set and wait; one keeper per connection tells the server, so that nobody
//! who leaves in the middle leaves the set and the server apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    pin::pin,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    call::{
        ListKind,
        event::{Event, ServerNotification},
    },
    mcp::{message::Body, method::Method, raw::Raw, splice, version::Era},
    telemetry::throttle,
    upstream::{
        connection::{error::message_of, open::Connection},
        exchange::{Exchange, error::SendError},
        replica::inbox::EventSink,
    },
};

/// The pause between the end of a modern server's stream and the next.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause where the next one could not be opened.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// How long a modern server's stream is still read when it has a successor: what happened before
/// that began, the server may tell a moment later, and only there.
const LINGER: Duration = Duration::from_secs(1);

/// Resources that somebody wants to hear of.
#[derive(Debug)]
pub struct Subscriptions {
    uris: Mutex<BTreeMap<String, Want>>,
    changed: Notify,
    /// How long a server may take to acknowledge.
    patience: Duration,
}

/// A resource. With nobody left it stays until the server was told so.
#[derive(Debug, Default)]
struct Want {
    clients: usize,
    told: Acknowledged,
    waiting: Vec<oneshot::Sender<Result<(), SendError>>>,
}

/// The server's knowledge of a subscription, on this connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Acknowledged {
    #[default]
    No,
    Yes,
    /// The server did not take it: it is asked again for the next client, or on the next
    /// connection.
    Refused,
}

/// The streams on which a modern server tells changes.
#[derive(Default)]
struct Streams {
    current: Option<Exchange>,
    /// The one before, and until when it is read.
    former: Option<(Exchange, Instant)>,
}

/// A client that is counted; dropped before its wish was granted, it no longer is.
struct PendingSubscriber<'a> {
    wanted: &'a Subscriptions,
    uri: &'a str,
    granted: bool,
}

impl Subscriptions {
    pub fn new(patience: Duration) -> Self {
        Self { uris: Mutex::default(), changed: Notify::new(), patience }
    }

    /// Takes over what was wanted of a predecessor; the server is told when it is open.
    pub fn inherit(&self, predecessor: &Self) {
        let theirs = predecessor.uris.lock();
        let counts = theirs.iter().map(|(uri, want)| (uri.clone(), want.clients));
        let wants = counts.map(|(uri, clients)| (uri, Want { clients, ..Want::default() }));
        self.uris.lock().extend(wants.filter(|(_, want)| want.clients != 0));
    }

    /// Wants `uri`; returns once the server knows. Dropped or failed, nothing is wanted.
    ///
    /// # Errors
    /// Where the server refuses, or is not heard in time.
    pub async fn add(&self, uri: &str) -> Result<(), SendError> {
        let answer = {
            let mut uris = self.uris.lock();
            let want = uris.entry(uri.to_owned()).or_default();
            want.clients += 1;
            if want.told == Acknowledged::Yes {
                return Ok(());
            }
            want.told = Acknowledged::No;
            let (granted, answer) = oneshot::channel();
            want.waiting.push(granted);
            answer
        };
        let mut counted = PendingSubscriber { wanted: self, uri, granted: false };
        self.changed.notify_one();
        // The sender is in the set for as long as the client is counted.
        let answered = timeout(self.patience, answer).await.ok().and_then(Result::ok);
        answered.unwrap_or(Err(SendError::Idle(self.patience)))?;
        counted.granted = true;
        Ok(())
    }

    /// Undoes one [`Subscriptions::add`]; the server is told when nobody is left.
    pub fn remove(&self, uri: &str) {
        let mut uris = self.uris.lock();
        let Some(want) = uris.get_mut(uri) else { return };
        want.clients = want.clients.saturating_sub(1);
        if want.clients == 0 && want.told != Acknowledged::Yes {
            uris.remove(uri);
        }
        drop(uris);
        self.changed.notify_one();
    }

    /// The server knows of nothing: a new connection, or a stream that ended.
    pub fn forgotten(&self) {
        let mut uris = self.uris.lock();
        uris.retain(|_, want| 0 < want.clients);
        for want in uris.values_mut() {
            want.told = Acknowledged::No;
        }
    }

    /// Keeps the server of a freshly opened connection told, for as long as that lives.
    pub async fn keep(&self, connection: &Connection, sink: &EventSink) {
        match connection.peer.version.era() {
            Era::Legacy => {
                let aside = connection.listen_aside(oneshot::channel().0);
                tokio::join!(self.subscribe(connection, sink.upstream()), aside);
            }
            Era::Modern => Box::pin(self.listen(connection, sink)).await,
        }
    }

    /// Sends one request after the other (legacy).
    async fn subscribe(&self, connection: &Connection, upstream: &str) {
        loop {
            let next = self.next();
            let Some((uri, method)) = next else {
                self.changed.notified().await;
                continue;
            };
            let params = Raw::encode(&json!({ "uri": uri }));
            let asked = async {
                match connection.ask(method, &params, None).await?.answer().await? {
                    Body::Result(_) => Ok(()),
                    Body::Error(error) => Err(SendError::Garbage(message_of(&error))),
                }
            };
            let asked = timeout(self.patience, asked).await;
            let told = asked.unwrap_or(Err(SendError::Idle(self.patience)));
            if matches!(told, Err(SendError::SessionGone)) {
                // The next connection is told anew, and those who wait with it.
                return;
            }
            if let Err(error) = &told {
                not_taken(upstream, &uri, method, error);
            }
            if method == Method::Subscribe {
                self.settle(&BTreeSet::from([uri]), &told);
            }
        }
    }

    /// The next thing that the server is to be told.
    fn next(&self) -> Option<(String, Method)> {
        let mut uris = self.uris.lock();
        if let Some((uri, _)) = uris.extract_if(.., |_, want| want.clients == 0).next() {
            return Some((uri, Method::Unsubscribe));
        }
        let (uri, _) = uris.iter().find(|(_, want)| want.told == Acknowledged::No)?;
        Some((uri.clone(), Method::Subscribe))
    }

    /// All that the next stream is to bring.
    fn wished(&self) -> BTreeSet<String> {
        let mut uris = self.uris.lock();
        uris.retain(|_, want| 0 < want.clients);
        uris.keys().cloned().collect()
    }

    /// The server was told of these, or would not hear of them: who waits is answered.
    fn settle(&self, asked: &BTreeSet<String>, told: &Result<(), SendError>) {
        let mut uris = self.uris.lock();
        for (_, want) in uris.iter_mut().filter(|(uri, _)| asked.contains(*uri)) {
            match told {
                Ok(()) => want.told = Acknowledged::Yes,
                Err(_) if want.told == Acknowledged::Yes => continue,
                Err(_) => want.told = Acknowledged::Refused,
            }
            for waiting in want.waiting.drain(..) {
                // The subscriber may have gone, and is no longer counted then.
                waiting.send(told.clone()).ok();
            }
        }
        if told.is_err() {
            return;
        }
        // The subscriber has left in the meantime: the server is to be told that next.
        for uri in asked {
            let unwanted = Want { told: Acknowledged::Yes, ..Want::default() };
            uris.entry(uri.clone()).or_insert(unwanted);
        }
    }

    /// Opens one `subscriptions/listen` after the other: the new one is open before the old one is
    /// closed, and the old one stays where there is no new one.
    async fn listen(&self, connection: &Connection, sink: &EventSink) {
        let mut streams = Streams::default();
        loop {
            let uris = self.wished();
            // Boxed: rare and large.
            let begun = Box::pin(self.succeed(&mut streams, connection, sink, &uris)).await;
            self.settle(&uris, &begun.as_ref().map(drop).map_err(Clone::clone));
            let mut again = None;
            match begun {
                Ok(begun) => streams.succeeded_by(begun),
                Err(error) => {
                    no_subscription(sink.upstream(), &error);
                    // A refused subscription is not asked for again by itself; a broken one is.
                    let refused = matches!(error, SendError::Garbage(_));
                    again = (streams.current.is_none() && !refused).then_some(PAUSE_AFTER_FAILURE);
                }
            }
            tokio::select! {
                // All hold nothing when dropped that is not asked for again.
                () = self.changed.notified() => (),
                () = after(again) => (),
                () = streams.follow(sink) => {
                    if connection.is_closed() {
                        return;
                    }
                    streams = Streams::default();
                    self.forgotten();
                    sleep(PAUSE).await;
                    sink.reopened();
                }
            }
        }
    }

    /// Opens the next stream; what the present one brings in the meantime is told, too.
    async fn succeed(
        &self,
        streams: &mut Streams,
        connection: &Connection,
        sink: &EventSink,
        uris: &BTreeSet<String>,
    ) -> Result<Option<Exchange>, SendError> {
        let mut begun = pin!(timeout(self.patience, self.begin(connection, sink, uris)));
        let begun = tokio::select! {
            // Reading may be dropped: see `Exchange::next`.
            begun = &mut begun => begun,
            () = streams.follow(sink) => {
                *streams = Streams::default();
                // Its successor may have begun later.
                sink.reopened();
                begun.await
            }
        };
        begun.unwrap_or(Err(SendError::Idle(self.patience)))
    }

    /// Opens the stream and waits for its acknowledgement; nothing where there is nothing to hear.
    async fn begin(
        &self,
        connection: &Connection,
        sink: &EventSink,
        uris: &BTreeSet<String>,
    ) -> Result<Option<Exchange>, SendError> {
        let Some(params) = filter(&connection.peer.capabilities, uris) else { return Ok(None) };
        let mut exchange = connection.ask(Method::Listen, &params, None).await?.endless();
        loop {
            match exchange.next().await? {
                Event::Notification(notice) if notice.method == Some(Method::Acknowledged) => {
                    return Ok(Some(exchange));
                }
                Event::Notification(notice) => sink.notice(&without_subscription(notice)),
                Event::Answer { body: Body::Error(error), .. } => {
                    return Err(SendError::Garbage(message_of(&error)));
                }
                Event::Answer { .. } => {
                    let why = "it ended a subscription that it did not acknowledge";
                    return Err(SendError::Garbage(why.to_owned()));
                }
                Event::ServerRequest(_) | Event::Resumable { .. } => (),
            }
        }
    }
}

impl Streams {
    fn succeeded_by(&mut self, next: Option<Exchange>) {
        let until = Instant::now() + LINGER;
        self.former = std::mem::replace(&mut self.current, next).map(|former| (former, until));
    }

    /// Tells what they bring until the present one ends; what there is none of does not end.
    async fn follow(&mut self, sink: &EventSink) {
        tokio::select! {
            // Both keep what they have when dropped. The present one first: what both tell is told
            // in its order.
            biased;
            () = follow(self.current.as_mut(), sink) => (),
            never = outlive(&mut self.former, sink) => match never {},
        }
    }
}

impl Drop for PendingSubscriber<'_> {
    fn drop(&mut self) {
        if !self.granted {
            self.wanted.remove(self.uri);
        }
    }
}

fn filter(capabilities: &Raw, uris: &BTreeSet<String>) -> Option<Raw> {
    let mut notifications = serde_json::Map::new();
    for (kind, key) in [
        (ListKind::Tools, "toolsListChanged"),
        (ListKind::Prompts, "promptsListChanged"),
        (ListKind::Resources, "resourcesListChanged"),
    ] {
        let section = splice::member(capabilities, kind.capability());
        let says = section.and_then(|section| splice::member(&section, "listChanged"));
        if says.is_some_and(|says| says.as_str() == "true") {
            notifications.insert(key.to_owned(), true.into());
        }
    }
    if !uris.is_empty() {
        notifications.insert("resourceSubscriptions".to_owned(), json!(uris));
    }
    (!notifications.is_empty()).then(|| Raw::encode(&json!({ "notifications": notifications })))
}

/// Reads until it ends; what there is none of does not end.
async fn follow(exchange: Option<&mut Exchange>, sink: &EventSink) {
    let Some(exchange) = exchange else { return std::future::pending().await };
    loop {
        match exchange.next().await {
            Ok(Event::Notification(notice)) => sink.notice(&without_subscription(notice)),
            Ok(Event::Answer { .. }) | Err(_) => return,
            Ok(Event::ServerRequest(_) | Event::Resumable { .. }) => (),
        }
    }
}

/// Reads a stream that has a successor for as long as that is of use.
async fn outlive(former: &mut Option<(Exchange, Instant)>, sink: &EventSink) -> Infallible {
    if let Some((exchange, until)) = former {
        let _ended_or_over = timeout_at(*until, follow(Some(exchange), sink)).await;
        *former = None;
    }
    std::future::pending().await
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// The subscription's id is ours; a client hears of its own.
fn without_subscription(notice: ServerNotification) -> ServerNotification {
    let edits: &[(&str, Option<&[u8]>)] = &[(crate::mcp::meta::SUBSCRIPTION_ID, None)];
    let params = splice::edit_within(&notice.params, "_meta", edits);
    ServerNotification { params, ..notice }
}

fn not_taken(upstream: &str, uri: &str, method: Method, error: &SendError) {
    let method = method.name();
    throttle::line(("a subscription", upstream, method), |more| {
        tracing::warn!(upstream, %uri, %error, more, "an upstream did not take `{method}`");
    });
}

fn no_subscription(upstream: &str, error: &SendError) {
    throttle::line(("subscriptions", upstream), |more| {
        tracing::warn!(upstream, %error, more, "an upstream took no subscription");
    });
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, join};

    use crate::upstream::exchange::server_reason::ServerReason;

    use super::*;

    fn told(wanted: &Subscriptions, told: &Result<(), SendError>) {
        wanted.settle(&BTreeSet::from(["a".to_owned()]), told);
    }

    fn wanted() -> Subscriptions {
        Subscriptions::new(Duration::from_millis(200))
    }

    fn next(wanted: &Subscriptions) -> Option<Method> {
        wanted.next().map(|(_, method)| method)
    }

    #[tokio::test]
    async fn nobody_is_answered_before_the_server_knows() {
        let wanted = wanted();
        let (mut first, mut second) = (pin!(wanted.add("a")), pin!(wanted.add("a")));
        assert!(
            first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none()
        );
        assert_eq!(next(&wanted), Some(Method::Subscribe));
        told(&wanted, &Ok(()));
        assert_eq!(join!(first, second), (Ok(()), Ok(())));
        assert_eq!((wanted.add("a").await, next(&wanted)), (Ok(()), None), "known already");
        wanted.remove("a");
        wanted.remove("a");
        assert_eq!(next(&wanted), None, "one is left");
        wanted.remove("a");
        assert_eq!(next(&wanted), Some(Method::Unsubscribe));
        assert_eq!(next(&wanted), None);
    }

    #[tokio::test]
    async fn who_leaves_before_the_answer_is_not_counted() {
        let wanted = wanted();
        assert!(wanted.add("a").now_or_never().is_none());
        assert_eq!(next(&wanted), None, "the server heard nothing");
        {
            let mut leaves = pin!(wanted.add("a"));
            assert!(leaves.as_mut().now_or_never().is_none());
            assert_eq!(next(&wanted), Some(Method::Subscribe));
        }
        told(&wanted, &Ok(()));
        assert_eq!(next(&wanted), Some(Method::Unsubscribe), "the server is told again");
    }

    #[tokio::test]
    async fn a_refusal_is_told_and_a_later_client_asks_again() {
        let wanted = wanted();
        let mut refused = pin!(wanted.add("a"));
        assert!(refused.as_mut().now_or_never().is_none());
        told(&wanted, &Err(SendError::Status(500, ServerReason::default())));
        let mut later = pin!(wanted.add("a"));
        assert!(later.as_mut().now_or_never().is_none());
        assert_eq!(refused.await, Err(SendError::Status(500, ServerReason::default())));
        assert_eq!(next(&wanted), Some(Method::Subscribe));
        told(&wanted, &Ok(()));
        assert_eq!(later.await, Ok(()));
        wanted.forgotten();
        assert_eq!(next(&wanted), Some(Method::Subscribe), "again after a re-opening");
        let silence = wanted.add("b").await;
        assert_eq!(silence, Err(SendError::Idle(Duration::from_millis(200))));
        assert_eq!(wanted.wished(), BTreeSet::from(["a".to_owned()]));
    }
}
