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
    calls: Mutex<Calls>,
    /// Notified when a call has ended.
    ended: Notify,
}

#[derive(Default)]
struct Calls {
    /// Those that are not answered yet.
    running: HashMap<Id, Entry>,
    /// Those whose answers wait to be written: their ids are free again.
    answered: usize,
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
    is_answered: bool,
}

impl ActiveCalls {
    /// Counts a call among those under way.
    ///
    /// # Errors
    /// Its id is in use, or there are `max` already.
    pub fn begin(&self, id: &Id, listens: bool, max: usize) -> Result<ActiveCall, Fault> {
        let mut calls = self.0.calls.lock();
        if calls.running.contains_key(id) {
            return Err(Fault::DuplicateId);
        }
        if max <= calls.len() {
            let text = "too many calls are under way on this channel (`channel_calls_max`)";
            return Err(Fault::Limit(text.to_owned()));
        }
        let cancelled = CancellationToken::new();
        calls.running.insert(id.clone(), Entry { cancelled: cancelled.clone(), listens });
        Ok(ActiveCall { table: Arc::clone(&self.0), id: id.clone(), cancelled, is_answered: false })
    }

    /// Cancels a call, if there is one of this id.
    pub fn cancel(&self, id: &Id) {
        if let Some(entry) = self.0.calls.lock().running.get(id) {
            entry.cancelled.cancel();
        }
    }

    /// Ends what would never end by itself.
    pub fn end_listening(&self) {
        let calls = self.0.calls.lock();
        let listening = calls.running.values().filter(|entry| entry.listens);
        listening.for_each(|entry| entry.cancelled.cancel());
    }

    /// Waits until none is under way.
    pub async fn ended(&self) {
        loop {
            let mut ended = std::pin::pin!(self.0.ended.notified());
            ended.as_mut().enable();
            if self.0.calls.lock().len() == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Calls {
    fn len(&self) -> usize {
        self.running.len() + self.answered
    }
}

impl ActiveCall {
    /// Frees its id, before the answer is sent: a client may use it again as soon as it has that,
    /// though it should not (MCP 2025-11-25, basic, requests). Until it is written, it still counts
    /// as under way.
    pub fn answered(&mut self) {
        let mut calls = self.table.calls.lock();
        if !std::mem::replace(&mut self.is_answered, true) {
            calls.running.remove(&self.id);
            calls.answered += 1;
        }
    }

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
        let mut calls = self.table.calls.lock();
        if self.is_answered {
            calls.answered = calls.answered.saturating_sub(1);
        } else {
            calls.running.remove(&self.id);
        }
        drop(calls);
        self.table.ended.notify_waiters();
    }
}
