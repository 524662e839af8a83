//! The calls under way on a channel, by their ids, and which of them are cancelled.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{mcp::id::Id, pipeline::Fault};

/// The calls under way on one channel.
#[derive(Default)]
pub struct ActiveCalls(Arc<Table>);

#[derive(Default)]
struct Table {
    calls: Mutex<HashMap<Id, Entry>>,
    /// Notified when a call has ended.
    ended: Notify,
}

struct Entry {
    cancelled: CancellationToken,
    /// A subscription, which ends only when told to.
    listens: bool,
}

/// A call under way; dropped, it is over.
pub struct ActiveCall {
    table: Arc<Table>,
    id: Id,
    cancelled: CancellationToken,
}

impl ActiveCalls {
    /// Counts a call among those under way.
    ///
    /// # Errors
    /// Its id is in use, or there are `max` already.
    pub fn begin(&self, id: &Id, listens: bool, max: usize) -> Result<ActiveCall, Fault> {
        let mut calls = self.0.calls.lock();
        if calls.contains_key(id) {
            return Err(Fault::DuplicateId);
        }
        if max <= calls.len() {
            let text = "too many calls are under way on this channel (`channel_calls_max`)";
            return Err(Fault::Limit(text.to_owned()));
        }
        let cancelled = CancellationToken::new();
        calls.insert(id.clone(), Entry { cancelled: cancelled.clone(), listens });
        Ok(ActiveCall { table: Arc::clone(&self.0), id: id.clone(), cancelled })
    }

    /// Cancels a call, if there is one of this id.
    pub fn cancel(&self, id: &Id) {
        if let Some(entry) = self.0.calls.lock().get(id) {
            entry.cancelled.cancel();
        }
    }

    /// Ends what would never end by itself.
    pub fn end_listening(&self) {
        let calls = self.0.calls.lock();
        calls.values().filter(|entry| entry.listens).for_each(|entry| entry.cancelled.cancel());
    }

    /// Waits until none is under way.
    pub async fn ended(&self) {
        loop {
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            if self.0.calls.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }
}

impl ActiveCall {
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Waits until the client cancels it.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.table.calls.lock().remove(&self.id);
        self.table.ended.notify_waiters();
    }
}
