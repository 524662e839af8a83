//! What a client subscribed to on a connection that all share: counted, asked for once, asked again
//! after a re-opening.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{oneshot, watch};

use crate::{
    call::{
        ListKind,
        event::{Event, Notice},
    },
    mcp::{message::Body, method::Method, raw::Raw, splice, version::Era},
};

use super::{
    SendError,
    exchange::Exchange,
    open::{Connection, message_of},
    sign::Signs,
};

/// Resources that somebody wants to hear of, and how many do.
#[derive(Debug)]
pub struct Wanted {
    uris: Mutex<BTreeMap<String, usize>>,
    /// Grows with each change of the set.
    changes: watch::Sender<u64>,
    /// The change up to which a modern server has acknowledged.
    acknowledged: watch::Sender<u64>,
}

impl Wanted {
    pub fn new() -> Self {
        Self {
            uris: Mutex::default(),
            changes: watch::Sender::new(0),
            acknowledged: watch::Sender::new(0),
        }
    }

    /// Wants `uri`; returns once the server knows.
    pub async fn add(&self, connection: &Connection, uri: &str) -> Result<(), SendError> {
        let first = {
            let mut uris = self.uris.lock();
            let count = uris.entry(uri.to_owned()).or_default();
            *count += 1;
            *count == 1
        };
        if !first {
            return Ok(());
        }
        if let Err(error) = self.changed(connection, Method::Subscribe, uri).await {
            self.uris.lock().remove(uri);
            return Err(error);
        }
        Ok(())
    }

    /// No longer wants `uri`; the server is told when nobody does.
    pub async fn remove(&self, connection: &Connection, uri: &str) -> Result<(), SendError> {
        let last = {
            let mut uris = self.uris.lock();
            let Some(count) = uris.get_mut(uri) else { return Ok(()) };
            *count -= 1;
            *count == 0 && uris.remove(uri).is_some()
        };
        if last { self.changed(connection, Method::Unsubscribe, uri).await } else { Ok(()) }
    }

    /// Keeps the server of a freshly opened connection told, for as long as that lives.
    pub async fn keep(&self, connection: &Connection, signs: &Signs) {
        match connection.peer.version.era() {
            Era::Legacy => {
                self.subscribe_again(connection).await;
                connection.listen_aside(oneshot::channel().0).await;
            }
            Era::Modern => self.listen(connection, signs).await,
        }
    }

    async fn subscribe_again(&self, connection: &Connection) {
        let uris: Vec<_> = self.uris.lock().keys().cloned().collect();
        for uri in uris {
            if let Err(error) = self.changed(connection, Method::Subscribe, &uri).await {
                tracing::warn!(%uri, %error, "a subscription was not taken again");
            }
        }
    }

    async fn changed(
        &self,
        connection: &Connection,
        method: Method,
        uri: &str,
    ) -> Result<(), SendError> {
        if connection.peer.version.era() == Era::Modern {
            let mut acknowledged = self.acknowledged.subscribe();
            self.changes.send_modify(|changes| *changes += 1);
            let change = *self.changes.borrow();
            // The sender is `self`: it cannot be gone.
            acknowledged.wait_for(|known| change <= *known).await.ok();
            return Ok(());
        }
        let params = Raw::encode(&json!({ "uri": uri }));
        match connection.ask(method, &params, None).await?.answer().await? {
            Body::Result(_) => Ok(()),
            Body::Error(error) => Err(SendError::Garbage(message_of(&error))),
        }
    }

    /// One `subscriptions/listen` after the other: the new one is open before the old one is
    /// closed.
    async fn listen(&self, connection: &Connection, signs: &Signs) {
        let mut changes = self.changes.subscribe();
        // Held while its successor is opened.
        let mut current: Option<Exchange>;
        let mut _earlier = None;
        loop {
            let change = *changes.borrow_and_update();
            current = self.begin(connection, signs).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "an upstream took no subscription");
                None
            });
            _earlier = None;
            self.acknowledged.send_replace(change);
            let ended = async {
                match &mut current {
                    Some(exchange) => follow(exchange, signs).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Both hold nothing when dropped that is not asked for again.
                changed = changes.changed() => match changed {
                    Ok(()) => _earlier = current.take(),
                    Err(_) => return,
                },
                () = ended => {
                    if connection.is_closed() { return }
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    signs.reopened();
                }
            }
        }
    }

    /// Opens the stream and waits for its acknowledgement; nothing where there is nothing to hear.
    async fn begin(
        &self,
        connection: &Connection,
        signs: &Signs,
    ) -> Result<Option<Exchange>, SendError> {
        let params = self.filter(&connection.peer.capabilities);
        let Some(params) = params else { return Ok(None) };
        let mut exchange = connection.ask(Method::Listen, &params, None).await?.endless();
        loop {
            match exchange.next().await? {
                Event::Notice(notice) if notice.method == Some(Method::Acknowledged) => {
                    return Ok(Some(exchange));
                }
                Event::Notice(notice) => signs.notice(&without_subscription(notice)),
                Event::Answer { body: Body::Error(error), .. } => {
                    return Err(SendError::Garbage(message_of(&error)));
                }
                Event::Answer { .. } => return Ok(None),
                Event::Question(_) | Event::Paused { .. } => (),
            }
        }
    }

    fn filter(&self, capabilities: &Raw) -> Option<Raw> {
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
        let uris: Vec<_> = self.uris.lock().keys().cloned().collect();
        if !uris.is_empty() {
            notifications.insert("resourceSubscriptions".to_owned(), uris.into());
        }
        (!notifications.is_empty()).then(|| Raw::encode(&json!({ "notifications": notifications })))
    }
}

async fn follow(exchange: &mut Exchange, signs: &Signs) {
    loop {
        match exchange.next().await {
            Ok(Event::Notice(notice)) => signs.notice(&without_subscription(notice)),
            Ok(Event::Answer { .. }) | Err(_) => return,
            Ok(Event::Question(_) | Event::Paused { .. }) => (),
        }
    }
}

/// The subscription's id is ours; a client hears of its own.
fn without_subscription(notice: Notice) -> Notice {
    let edits: &[(&str, Option<&[u8]>)] = &[(crate::mcp::meta::SUBSCRIPTION_ID, None)];
    let params = splice::edit_within(&notice.params, "_meta", edits);
    Notice { params, ..notice }
}
