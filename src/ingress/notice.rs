//! Notifications of a client.

use futures_util::future::join_all;

use crate::{
    call::SessionKey,
    mcp::{id::Id, message::Notification, method::Method, raw::Raw, splice},
    snapshot::RouteSnapshot,
};

/// A notification, by what the gate does with it.
pub enum ClientNotice {
    Cancelled {
        id: Id,
        reason: Option<String>,
    },
    /// Forwarded to the session's upstreams.
    Forwarded(Method),
    Initialized,
    /// Ignored.
    Other,
}

pub fn read(notification: &Notification) -> ClientNotice {
    match Method::notification(&notification.method) {
        Some(Method::Cancelled) => {
            let member = |key| splice::member(&notification.params, key);
            let reason = member("reason").and_then(|reason| reason.try_read());
            let id = member("requestId").and_then(|id| Id::new(id).ok());
            id.map_or(ClientNotice::Other, |id| ClientNotice::Cancelled { id, reason })
        }
        Some(method @ Method::RootsListChanged) => ClientNotice::Forwarded(method),
        Some(Method::Initialized) => ClientNotice::Initialized,
        _ => ClientNotice::Other,
    }
}

/// Forwards a notification to all upstreams at once; the client waits for none of them.
pub fn forward(at: &RouteSnapshot, key: SessionKey, method: Method, params: Raw) {
    let all = at.snapshot.all_behind(&at.route);
    at.gate.tasks.spawn("session: forward", async move {
        join_all(all.iter().map(|upstream| upstream.notify(key, method, &params))).await;
    });
}
