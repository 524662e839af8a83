//! The table of connections that are open: which newcomers are admitted, which make room, and which
//! are ended because nothing goes on in them.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{Counter, Counters, Gauge};

use super::connection::ClientConnection;

/// The longest pause between two sweeps.
const PERIOD_MAX: Duration = Duration::from_secs(1);
/// The shortest one, for bounds of milliseconds in tests.
const PERIOD_MIN: Duration = Duration::from_millis(10);
/// The part of the shortest bound that a sweep may come too late.
const PERIOD_PART: u32 = 4;
/// Idle connections that one search for the longest idle finds: a flood of new connections then
/// costs one search for so many.
const FOUND_MAX: usize = 64;
/// Connections that make room at once and are told so; more are closed without a word, so that
/// those that end are bounded, too.
const ENDING_MAX: usize = 64;

/// All connections of one listener.
#[derive(Debug)]
pub struct Connections {
    bounds: ConnectionBounds,
    table: Mutex<Table>,
    sweeps: Arc<AtomicU64>,
    ending: Arc<AtomicUsize>,
    /// The signal that the listener stops: each connection is told through it.
    closing: CancellationToken,
    counters: Arc<Counters>,
}

/// Bounds on the number of connections, and on their time without progress.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionBounds {
    pub connections_max: usize,
    pub per_address_max: usize,
    /// A connection of HTTP/2 without a request for so long is ended. (hyper does so for HTTP/1.)
    pub idle: Duration,
    /// A connection whose peer takes no byte for so long, of what waits for it, is closed.
    pub write_timeout: Duration,
}

/// A connection by its id, with the sweep since which it is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct IdleConnection {
    since: u64,
    id: u64,
}

#[derive(Debug, Default)]
struct Table {
    open: HashMap<u64, Arc<ClientConnection>>,
    addresses: HashMap<IpAddr, usize>,
    opened: u64,
    /// Connections that were idle for longest when they were looked for, the longest first.
    found: VecDeque<IdleConnection>,
}

/// The slot of a connection; dropped, it is free for another one.
#[derive(Debug)]
pub struct ConnectionSlot {
    pub connection: Arc<ClientConnection>,
    connections: Arc<Connections>,
}

/// Counts a connection that was told to make room, until it has ended.
#[derive(Debug)]
pub struct EndingGuard(Arc<AtomicUsize>);

/// Why a connection is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRefusal {
    /// All slots are taken by connections that are in use.
    Full,
    /// All slots of its address are taken by such connections.
    Address,
}

impl Connections {
    pub fn new(bounds: ConnectionBounds, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            table: Mutex::default(),
            // 0 means never.
            sweeps: Arc::new(AtomicU64::new(1)),
            ending: Arc::default(),
            closing: CancellationToken::new(),
            counters,
        })
    }

    /// Admits a connection from this address. Where all slots are taken, the connection that is
    /// idle for longest makes room, of this address where that has too many. `unbounded`: the
    /// address stands for many clients.
    ///
    /// # Errors
    /// All slots are taken by connections that are in use.
    pub fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        unbounded: bool,
    ) -> Result<ConnectionSlot, ConnectionRefusal> {
        let address = (!unbounded).then(|| network(address));
        let mut table = self.table.lock();
        if let Some(address) = address
            && self.bounds.per_address_max <= table.of(address)
        {
            let idle = table.longest_idle_of(address).ok_or(ConnectionRefusal::Address)?;
            self.make_room(&mut table, &idle);
        }
        if self.bounds.connections_max <= table.open.len() {
            let idle = table.longest_idle().ok_or(ConnectionRefusal::Full)?;
            self.make_room(&mut table, &idle);
        }
        table.opened += 1;
        let end = self.closing.child_token();
        let sweeps = Arc::clone(&self.sweeps);
        let id = table.opened;
        let counters = Arc::clone(&self.counters);
        let connection = Arc::new(ClientConnection::new(id, address, end, sweeps, counters));
        self.counters.raise(Gauge::Connections);
        table.open.insert(connection.id, Arc::clone(&connection));
        if let Some(address) = address {
            *table.addresses.entry(address).or_default() += 1;
        }
        Ok(ConnectionSlot { connection, connections: Arc::clone(self) })
    }

    /// Ends the connection that is idle for longest, for want of something that each has, such as a
    /// descriptor; false where all are in use.
    pub fn shed(&self) -> bool {
        let mut table = self.table.lock();
        let idle = table.longest_idle();
        idle.map(|idle| self.make_room(&mut table, &idle)).is_some()
    }

    /// The pause between two calls of [`Connections::sweep`].
    pub fn period(&self) -> Duration {
        let shortest = self.bounds.idle.min(self.bounds.write_timeout);
        (shortest / PERIOD_PART).clamp(PERIOD_MIN, PERIOD_MAX)
    }

    /// Ends connections of HTTP/2 that are idle for too long, and closes those whose peers do not
    /// read.
    pub fn sweep(&self) {
        let now = self.sweeps.fetch_add(1, Ordering::Relaxed) + 1;
        let idle = self.count(self.bounds.idle);
        let stalled = self.count(self.bounds.write_timeout);
        let table = self.table.lock();
        for connection in table.open.values() {
            let stalled_since = connection.stalled_since();
            if stalled_since.is_some_and(|since| stalled <= now.saturating_sub(since)) {
                self.counters.add_many(Counter::WritesStalled, usize::from(connection.cut()));
                continue;
            }
            let idle_since = connection.idle_since();
            if connection.is_http2()
                && idle_since.is_some_and(|since| idle <= now.saturating_sub(since))
                && connection.end()
            {
                self.counters.add(Counter::ConnectionsIdle);
            }
        }
    }

    /// The count of sweeps that have to pass until this time has.
    fn count(&self, time: Duration) -> u64 {
        let periods = time.as_nanos().div_ceil(self.period().as_nanos());
        // A request that began within a sweep has not waited for all of it.
        u64::try_from(periods).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn make_room(&self, table: &mut Table, idle: &ClientConnection) {
        table.remove(idle);
        self.counters.add(Counter::ConnectionsEvicted);
        if ENDING_MAX < self.ending.load(Ordering::Relaxed) {
            idle.cut();
        }
        idle.end();
    }

    /// Tells all connections that no more is taken, and none that comes later takes anything.
    pub fn close(&self) {
        self.closing.cancel();
    }

    /// Tells whether all are told to end.
    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table.lock().open.len()
    }
}

impl Table {
    fn of(&self, address: IpAddr) -> usize {
        self.addresses.get(&address).copied().unwrap_or_default()
    }

    fn remove(&mut self, connection: &ClientConnection) {
        if self.open.remove(&connection.id).is_none() {
            return;
        }
        let Some(address) = connection.address else { return };
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
    }

    fn longest_idle(&mut self) -> Option<Arc<ClientConnection>> {
        loop {
            if self.found.is_empty() {
                self.found = self.find_idle();
            }
            let IdleConnection { since, id } = self.found.pop_front()?;
            // A connection with a request meanwhile is no longer idle for longest.
            let still = |found: &&Arc<ClientConnection>| found.idle_since() == Some(since);
            if let Some(found) = self.open.get(&id).filter(still) {
                return Some(Arc::clone(found));
            }
        }
    }

    fn find_idle(&self) -> VecDeque<IdleConnection> {
        let idle = |connection: &Arc<ClientConnection>| {
            Some(IdleConnection { since: connection.idle_since()?, id: connection.id })
        };
        let mut all: Vec<_> = self.open.values().filter_map(idle).collect();
        if FOUND_MAX < all.len() {
            all.select_nth_unstable(FOUND_MAX);
            all.truncate(FOUND_MAX);
        }
        all.sort_unstable();
        all.into()
    }

    fn longest_idle_of(&self, address: IpAddr) -> Option<Arc<ClientConnection>> {
        let its = self.open.values().filter(|connection| connection.address == Some(address));
        let idle = its.filter_map(|one| Some((one.idle_since()?, one.id, one)));
        idle.min_by_key(|(since, id, _)| (*since, *id)).map(|(.., one)| Arc::clone(one))
    }
}

impl ConnectionSlot {
    /// Counts the connection as one that is about to end.
    pub fn ending(&self) -> EndingGuard {
        self.connections.ending.fetch_add(1, Ordering::Relaxed);
        EndingGuard(Arc::clone(&self.connections.ending))
    }

    /// Tells whether all connections are told to end, not this one alone.
    pub fn is_closing(&self) -> bool {
        self.connections.is_closing()
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.table.lock().remove(&self.connection);
        self.connections.counters.lower(Gauge::Connections);
    }
}

impl Drop for EndingGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The network that counts as one address: of IPv6 the first 64 bits, which one customer has for
/// himself (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
