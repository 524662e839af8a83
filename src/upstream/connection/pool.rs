//! Connections of one client's kind, leased to one call at a time: for servers that ask questions
//! in mid-call.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    time::Instant,
};

use crate::{
    call::tasks::Tasks,
    upstream::connection::{channel::Channel, open::Connection},
};

/// The open connections that nobody uses, and room for more.
#[derive(Debug)]
pub struct ConnectionPool {
    idle: Mutex<Vec<PooledConnection>>,
    places: Arc<Places>,
    connections_max: usize,
    tasks: Tasks,
}

/// The client that a connection was opened for: only an equal one may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey {
    /// A digest, since what a client says of itself may be long.
    pub digest: [u8; 32],
    /// The key is of one client for certain: what it tells stays with it.
    pub private: bool,
}

/// The room for one connection; whoever waits looks again once it is free.
#[derive(Debug)]
pub struct ConnectionRoom {
    permit: Option<OwnedSemaphorePermit>,
    places: Arc<Places>,
}

#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    returned: Notify,
}

/// An open connection in its room.
#[derive(Debug)]
pub struct PooledConnection {
    key: ClientKey,
    connection: Connection,
    room: ConnectionRoom,
    since: Instant,
}

/// A connection for one call; dropped, it goes back if the call was answered. After a call that was
/// not, what the server still says could be taken for the next one's: that connection is closed.
#[derive(Debug)]
pub struct Leased {
    pool: Arc<ConnectionPool>,
    entry: Option<PooledConnection>,
    answered: bool,
    /// The server was told what is one client's, and the key may be of several.
    spent: bool,
}

/// A link that is ended when this is dropped; its room is free when it has ended.
#[derive(Debug)]
pub struct ConnectionGuard {
    held: Option<(Channel, Option<ConnectionRoom>)>,
    tasks: Tasks,
}

/// The pool's answer for a key.
#[derive(Debug)]
pub enum PoolAnswer {
    Idle(Leased),
    /// The room to open one.
    Room(ConnectionRoom),
}

enum Look {
    Found(PoolAnswer),
    /// An entry of another key, idle for longest, which gives way.
    GivesWay(PooledConnection),
    Full,
}

impl ConnectionPool {
    /// Connections are ended by `tasks`.
    pub fn new(connections_max: usize, tasks: Tasks) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(connections_max));
        let places = Arc::new(Places { free, returned: Notify::new() });
        Arc::new(Self { idle: Mutex::default(), places, connections_max, tasks })
    }

    /// Waits until there is something; the caller's deadline bounds it.
    pub async fn find(self: &Arc<Self>, key: &ClientKey) -> PoolAnswer {
        loop {
            // Registered before looking, so that a return in between is not missed.
            let mut returned = std::pin::pin!(self.places.returned.notified());
            returned.as_mut().enable();
            match self.look(key) {
                Look::Found(found) => return found,
                Look::GivesWay(entry) => return PoolAnswer::Room(self.vacate(entry).await),
                Look::Full => returned.await,
            }
        }
    }

    /// Lends a connection that was opened in the room given.
    pub fn lend(
        self: &Arc<Self>,
        key: ClientKey,
        connection: Connection,
        room: ConnectionRoom,
    ) -> Leased {
        self.lease(PooledConnection { key, connection, room, since: Instant::now() })
    }

    /// Takes out what was idle for long; the caller closes it.
    pub fn sweep(&self, idle_max: Duration) -> Vec<PooledConnection> {
        let stale = |entry: &mut PooledConnection| {
            entry.connection.is_closed() || idle_max <= entry.since.elapsed()
        };
        self.idle.lock().extract_if(.., stale).collect()
    }

    /// Takes room for one connection that is kept outside of the pool; none once the pool is gone.
    pub async fn room(&self) -> Option<ConnectionRoom> {
        let permit = Arc::clone(&self.places.free).acquire_owned().await.ok()?;
        Some(self.room_of(permit))
    }

    /// How many there are, where all are leased.
    pub fn full(&self) -> Option<usize> {
        let full = self.places.free.available_permits() == 0 && self.idle.lock().is_empty();
        full.then_some(self.connections_max)
    }

    /// How many are open, used or not.
    pub fn open_count(&self) -> usize {
        self.connections_max - self.places.free.available_permits()
    }

    fn look(self: &Arc<Self>, key: &ClientKey) -> Look {
        let mut idle = self.idle.lock();
        for entry in idle.extract_if(.., |entry| entry.connection.is_closed()) {
            end(&self.tasks, entry.connection.link().clone(), Some(entry.room));
        }
        if let Some(at) = idle.iter().rposition(|entry| entry.key == *key) {
            return Look::Found(PoolAnswer::Idle(self.lease(idle.swap_remove(at))));
        }
        if let Ok(permit) = Arc::clone(&self.places.free).try_acquire_owned() {
            return Look::Found(PoolAnswer::Room(self.room_of(permit)));
        }
        let oldest = (0..idle.len()).min_by_key(|at| idle.get(*at).map(|entry| entry.since));
        oldest.map_or(Look::Full, |oldest| Look::GivesWay(idle.swap_remove(oldest)))
    }

    /// Ends a connection for its room. Where the caller is dropped, the room is free for others.
    async fn vacate(&self, entry: PooledConnection) -> ConnectionRoom {
        let (vacated, room) = oneshot::channel();
        self.tasks.finish(async move {
            entry.connection.close("another client's process takes its place").await;
            // Refused, it is dropped, and so is free.
            vacated.send(entry.room).ok();
        });
        match room.await {
            Ok(room) => room,
            // The whole runtime ends.
            Err(_) => std::future::pending().await,
        }
    }

    fn lease(self: &Arc<Self>, entry: PooledConnection) -> Leased {
        Leased { pool: Arc::clone(self), entry: Some(entry), answered: false, spent: false }
    }

    fn room_of(&self, permit: OwnedSemaphorePermit) -> ConnectionRoom {
        ConnectionRoom { permit: Some(permit), places: Arc::clone(&self.places) }
    }
}

impl PooledConnection {
    pub async fn close(self, why: &str) {
        self.connection.close(why).await;
    }
}

impl Leased {
    pub fn connection(&self) -> Option<Connection> {
        self.entry.as_ref().map(|entry| entry.connection.clone())
    }

    /// Notes that the call has been answered: the connection may be lent again.
    pub fn settle(&mut self) {
        self.answered = true;
    }

    /// The server asks for its client's roots, and will keep them: it cannot serve another client.
    pub fn asked_for_roots(&mut self) {
        self.spent |= self.entry.as_ref().is_some_and(|entry| !entry.key.private);
    }

    /// Marks the call unfinished again: its answer was a task whose result is pending.
    pub fn unsettle(&mut self) {
        self.answered = false;
    }
}

impl ConnectionGuard {
    pub fn new(link: Channel, room: Option<ConnectionRoom>, tasks: &Tasks) -> Self {
        Self { held: Some((link, room)), tasks: tasks.clone() }
    }

    /// Gives the room to a new holder, and ends the link no more.
    pub fn release(mut self) -> Option<ConnectionRoom> {
        self.held.take().and_then(|(_, room)| room)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some((link, room)) = self.held.take() {
            end(&self.tasks, link, room);
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(mut entry) = self.entry.take() else { return };
        if self.answered && !self.spent && !entry.connection.is_closed() {
            entry.since = Instant::now();
            self.pool.idle.lock().push(entry);
            self.pool.places.returned.notify_waiters();
        } else {
            end(&self.pool.tasks, entry.connection.link().clone(), Some(entry.room));
        }
    }
}

impl Drop for ConnectionRoom {
    fn drop(&mut self) {
        drop(self.permit.take());
        self.places.returned.notify_waiters();
    }
}

/// Ends a link. The room is free only when nothing is left of the link.
fn end(tasks: &Tasks, link: Channel, room: Option<ConnectionRoom>) {
    tasks.finish(async move {
        link.close("what it was opened for is over").await;
        drop(room);
    });
}
