//! Connections of one client's kind, leased to one call at a time: for servers that ask questions
//! in mid-call.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::open::Connection;

/// Open connections that nobody uses, and room for more.
#[derive(Debug)]
pub struct Pool {
    idle: Mutex<Vec<Entry>>,
    room: Arc<Semaphore>,
    connections_max: usize,
    returned: Notify,
}

/// What a connection was opened for: only an equal client may use it.
pub type Key = String;

#[derive(Debug)]
struct Entry {
    key: Key,
    connection: Connection,
    room: OwnedSemaphorePermit,
    since: Instant,
}

/// A connection for one call; dropped, it goes back if the call was answered. After a call that was
/// not, what the server still says could be taken for the next one's: that connection is closed.
#[derive(Debug)]
pub struct Leased {
    pool: Arc<Pool>,
    entry: Option<Entry>,
    answered: bool,
}

/// What the pool has for a key.
#[derive(Debug)]
pub enum Found {
    Idle(Leased),
    /// Room to open one; an idle one of another key is to be closed first where it had to give way.
    Room(OwnedSemaphorePermit, Option<Connection>),
}

impl Pool {
    pub fn new(connections_max: usize) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(connections_max));
        Arc::new(Self { idle: Mutex::default(), room, connections_max, returned: Notify::new() })
    }

    /// Waits until there is something; the caller's deadline bounds it.
    pub async fn find(self: &Arc<Self>, key: &Key) -> Found {
        loop {
            // Registered before looking, so that a return in between is not missed.
            let mut returned = std::pin::pin!(self.returned.notified());
            returned.as_mut().enable();
            if let Some(found) = self.look(key) {
                return found;
            }
            returned.await;
        }
    }

    /// Lends a connection that was opened in the room given.
    pub fn lend(
        self: &Arc<Self>,
        key: Key,
        connection: Connection,
        room: OwnedSemaphorePermit,
    ) -> Leased {
        let entry = Entry { key, connection, room, since: Instant::now() };
        Leased { pool: Arc::clone(self), entry: Some(entry), answered: false }
    }

    /// Takes out what was idle for long; the caller closes it.
    pub fn sweep(&self, idle_max: Duration) -> Vec<Connection> {
        let stale =
            |entry: &mut Entry| entry.connection.is_closed() || idle_max <= entry.since.elapsed();
        let gone: Vec<_> = self.idle.lock().extract_if(.., stale).collect();
        self.returned.notify_waiters();
        gone.into_iter().map(|entry| entry.connection).collect()
    }

    /// Room for one connection that is kept outside of the pool; none once the pool is gone.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).acquire_owned().await.ok()
    }

    /// How many are open, used or not.
    pub fn open_count(&self) -> usize {
        self.connections_max - self.room.available_permits()
    }

    fn look(self: &Arc<Self>, key: &Key) -> Option<Found> {
        let mut idle = self.idle.lock();
        idle.retain(|entry| !entry.connection.is_closed());
        if let Some(at) = idle.iter().rposition(|entry| entry.key == *key) {
            let entry = idle.swap_remove(at);
            return Some(Found::Idle(Leased {
                pool: Arc::clone(self),
                entry: Some(entry),
                answered: false,
            }));
        }
        if let Ok(room) = Arc::clone(&self.room).try_acquire_owned() {
            return Some(Found::Room(room, None));
        }
        let oldest = (0..idle.len()).min_by_key(|at| idle.get(*at).map(|entry| entry.since))?;
        let entry = idle.swap_remove(oldest);
        Some(Found::Room(entry.room, Some(entry.connection)))
    }
}

impl Leased {
    pub fn connection(&self) -> Option<Connection> {
        self.entry.as_ref().map(|entry| entry.connection.clone())
    }

    /// Its call has come to its end.
    pub fn settle(&mut self) {
        self.answered = true;
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(mut entry) = self.entry.take() else { return };
        if self.answered && !entry.connection.is_closed() {
            entry.since = Instant::now();
            self.pool.idle.lock().push(entry);
        }
        self.pool.returned.notify_waiters();
    }
}
