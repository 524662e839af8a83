//! Bytes of large answers that clients have not taken yet: so many for a connection, for a caller,
//! and for the gate. Where there are too many, the answer that is taken slowest makes room.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::{
    call::Caller,
    ingress::connections::ClientConnection,
    telemetry::{Counter, Counters},
};

/// Smaller answers are not counted: connections and requests are, and each holds a few of them at
/// most.
pub const COUNTED_MIN: usize = 16 << 10;
/// An answer makes no room for another before it had this time to be taken.
const GRACE: Duration = Duration::from_secs(1);
/// The part of a full budget that is freed at once, so that not each new answer looks at all.
const ROOM_PART: usize = 64;

/// The budget of a gate.
#[derive(Debug)]
pub struct SendBudget {
    bounds: RwLock<SendBounds>,
    state: Mutex<State>,
    secret: RandomState,
    counters: Arc<Counters>,
}

/// Bytes of answers that may wait to be taken. A caller and a connection of whom nothing waits may
/// have one larger answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendBounds {
    pub connection: usize,
    pub caller: usize,
    pub gate: usize,
}

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    callers: HashMap<u64, usize>,
    deliveries: HashMap<u64, Arc<Delivery>>,
    made: u64,
}

/// The client that takes an answer.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// The caller, as [`SendBudget::caller`] has it.
    pub caller: u64,
    pub connection: Arc<ClientConnection>,
    pub http2: bool,
}

/// A large answer, or one large event of a stream.
#[derive(Debug)]
pub struct Delivery {
    number: u64,
    bytes: usize,
    to: Recipient,
    began: Instant,
    taken: AtomicUsize,
    is_over: AtomicBool,
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

/// The bytes that one answer counts as; dropped, it gives them back.
#[derive(Debug)]
pub struct SendReservation {
    delivery: Arc<Delivery>,
    budget: Arc<SendBudget>,
}

/// The bytes of an answer with their reservation: once the last slice of them is gone, they are
/// taken.
struct CountedBytes {
    bytes: Bytes,
    _reservation: SendReservation,
}

/// The bound that an answer would exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Exceeded {
    #[error(
        "too many bytes wait to be read on this connection (`unsent_per_connection_max`): read \
         them, or use another one"
    )]
    Connection,
    #[error(
        "too many bytes wait to be read by this caller (`unsent_per_caller_max`): read them, and \
         try again"
    )]
    Caller,
    #[error(
        "too many bytes wait to be read by all clients of this gateway (`unsent_bytes_max`): try \
         again shortly"
    )]
    Gate,
}

impl SendBudget {
    pub fn new(bounds: SendBounds, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            bounds: RwLock::new(bounds),
            state: Mutex::default(),
            secret: RandomState::new(),
            counters,
        })
    }

    /// Sets the bounds that hold from now on.
    pub fn set(&self, bounds: SendBounds) {
        if *self.bounds.read() != bounds {
            *self.bounds.write() = bounds;
        }
    }

    /// The number by which a caller is counted, whichever of its tokens it came with.
    pub fn caller(&self, caller: &Caller) -> u64 {
        self.secret.hash_one(caller.to_string())
    }

    /// Counts an answer of so many bytes.
    ///
    /// # Errors
    /// The bound that it would exceed.
    pub fn admit(
        self: &Arc<Self>,
        bytes: usize,
        to: &Recipient,
    ) -> Result<SendReservation, Exceeded> {
        let bounds = *self.bounds.read();
        let mut state = self.state.lock();
        let unsent = to.connection.unsent.load(Ordering::Relaxed);
        if unsent != 0 && bounds.connection < unsent + bytes {
            return self.refuse(Exceeded::Connection);
        }
        let its = state.callers.get(&to.caller).copied().unwrap_or_default();
        if its != 0 && bounds.caller < its + bytes {
            let is_its = |delivery: &Delivery| delivery.to.caller == to.caller;
            if !self.make_room(&mut state, its + bytes - bounds.caller, is_its) {
                return self.refuse(Exceeded::Caller);
            }
        }
        if bounds.gate < state.bytes + bytes {
            let needed = state.bytes + bytes - bounds.gate;
            if bounds.gate < bytes || !self.make_room(&mut state, needed, |_| true) {
                return self.refuse(Exceeded::Gate);
            }
        }
        state.made += 1;
        let delivery = Arc::new(Delivery {
            number: state.made,
            bytes,
            to: to.clone(),
            began: Instant::now(),
            taken: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        state.bytes += bytes;
        *state.callers.entry(to.caller).or_default() += bytes;
        to.connection.unsent.fetch_add(bytes, Ordering::Relaxed);
        state.deliveries.insert(delivery.number, Arc::clone(&delivery));
        Ok(SendReservation { delivery, budget: Arc::clone(self) })
    }

    fn refuse<T>(&self, exceeded: Exceeded) -> Result<T, Exceeded> {
        self.counters.add(Counter::RefusedUnsent);
        Err(exceeded)
    }

    /// Ends those answers that are taken slowest, until so many bytes are free; false, and nothing
    /// is ended, where there are not enough that had their time.
    fn make_room(
        &self,
        state: &mut State,
        needed: usize,
        fits: impl Fn(&Delivery) -> bool,
    ) -> bool {
        let now = Instant::now();
        let had_time = |one: &&Arc<Delivery>| GRACE <= now.duration_since(one.began) && fits(one);
        let mut slowest: Vec<_> = state
            .deliveries
            .values()
            .filter(had_time)
            .map(|one| (one.bytes_per_second(now), one.number, one.bytes))
            .collect();
        if slowest.iter().map(|(.., bytes)| bytes).sum::<usize>() < needed {
            return false;
        }
        slowest.sort_unstable();
        let wanted = needed.max(self.bounds.read().gate / ROOM_PART);
        let mut freed = 0;
        for (rate, number, bytes) in slowest {
            // Answers on their way are not ended only to have some room to spare.
            if wanted <= freed || needed <= freed && rate != 0 {
                break;
            }
            if let Some(delivery) = state.release(number) {
                freed += bytes;
                self.counters.add(Counter::UnsentCut);
                delivery.cut();
            }
        }
        true
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

impl State {
    /// Counts an answer no more.
    fn release(&mut self, number: u64) -> Option<Arc<Delivery>> {
        let delivery = self.deliveries.remove(&number)?;
        self.bytes -= delivery.bytes;
        if let Some(its) = self.callers.get_mut(&delivery.to.caller) {
            *its -= delivery.bytes;
            if *its == 0 {
                self.callers.remove(&delivery.to.caller);
            }
        }
        delivery.to.connection.unsent.fetch_sub(delivery.bytes, Ordering::Relaxed);
        Some(delivery)
    }
}

impl Delivery {
    pub fn took(&self, bytes: usize) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Tells whether all of it is taken; else `context` is woken then.
    pub fn is_taken(&self, context: Option<&Context<'_>>) -> bool {
        if let Some(context) = context {
            self.waker.register(context.waker());
        }
        self.is_over.load(Ordering::Acquire)
    }

    /// Tells whether it had to make room for others; else `context` is woken then.
    pub fn is_cut(&self, context: &Context<'_>) -> bool {
        self.waker.register(context.waker());
        self.is_cut.load(Ordering::Acquire)
    }

    fn bytes_per_second(&self, now: Instant) -> usize {
        let seconds = now.duration_since(self.began).as_secs().max(1);
        self.taken() / usize::try_from(seconds).unwrap_or(usize::MAX)
    }

    /// Ends the answer: with HTTP/2 its stream, else the connection, which has no other.
    fn cut(&self) {
        tracing::debug!(self.bytes, "an answer was ended, since its client was the slowest reader");
        if !self.to.http2 {
            self.to.connection.cut();
        }
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl SendReservation {
    pub fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }

    /// Counts these bytes until all slices of them are gone.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(CountedBytes { bytes, _reservation: self })
    }
}

impl Drop for SendReservation {
    fn drop(&mut self) {
        self.budget.state.lock().release(self.delivery.number);
        self.delivery.is_over.store(true, Ordering::Release);
        self.delivery.waker.wake();
    }
}

impl AsRef<[u8]> for CountedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
