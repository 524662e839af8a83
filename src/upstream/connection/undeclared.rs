//! Finds out what a server lists that declares no lists at all.
//!
//! The official SDKs ask for lists whatever was declared, so servers with `"capabilities": {}` and
//! tools work with them.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{
    call::ListKind,
    config::Timeout,
    mcp::{message::Body, raw::Raw, splice},
    upstream::connection::{channel::Channel, peer::Peer},
};

/// How long such a server has for each list before it counts as one without it.
const PATIENCE: Duration = Duration::from_secs(2);
const LISTS: [ListKind; 3] = [ListKind::Tools, ListKind::Prompts, ListKind::Resources];

/// Whether it declares none of the lists.
pub fn is_blank(peer: &Peer) -> bool {
    LISTS.iter().all(|kind| splice::member(&peer.capabilities, kind.capability()).is_none())
}

/// The peer with the lists that it answers. An error, or anything else, means that it has none.
pub async fn complete(link: &Channel, peer: Peer, timeout: Timeout) -> Peer {
    let asked = LISTS.map(|kind| {
        let asking = Raw::object();
        let peer = &peer;
        async move {
            let exchange = link.ask(kind.method(), &asking, None, peer.version, timeout).await;
            match tokio::time::timeout(PATIENCE, exchange.ok()?.answer()).await {
                Ok(Ok(Body::Result(result))) if result.is_object() => {
                    splice::member(&result, kind.member()).map(|_| kind.capability())
                }
                Ok(Ok(_) | Err(_)) | Err(_) => None,
            }
        }
    });
    let found: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    let edits: Vec<(&str, Option<&[u8]>)> =
        found.iter().map(|kind| (*kind, Some(&b"{}"[..]))).collect();
    let capabilities = splice::edit(&peer.capabilities, &edits);
    Peer { capabilities, ..peer }
}
