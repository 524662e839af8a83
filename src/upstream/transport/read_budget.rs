//! Bytes of large answers that are being read from servers: one budget for all of a gate.
//!
//! A reader counts what it holds in steps, and waits where the budget is used up: the server waits
//! with it. One reader of each upstream may exceed the budget, so that readers that hold a part
//! each never wait for one another for ever, and no upstream waits for another one's.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::telemetry::{Counter, Counters};

/// An answer that is no larger is not counted: common calls go on whatever others read.
const FREE_BYTES: usize = 1 << 20;
/// A larger one is counted in steps of so many bytes.
const STEP_BYTES: usize = 1 << 20;
/// The part of the memory that answers may take while they are read, and the most of it: as for the
/// bodies of requests, eight of the largest at once.
const MEMORY_PART: usize = 32;
const USUAL_MAX: usize = 512 << 20;

/// The budget of a gate.
#[derive(Debug)]
pub struct ReadBudget {
    usual: usize,
    bytes_max: AtomicUsize,
    reserved: Mutex<usize>,
    released: Notify,
    counters: Arc<Counters>,
}

/// The part that one upstream has in the budget.
#[derive(Debug)]
pub struct ReadShare {
    budget: Arc<ReadBudget>,
    /// Whether one of its readers exceeds the budget.
    is_exceeded: AtomicBool,
}

/// The bytes that one reader has reserved, given back when this is dropped. A reader of small
/// answers costs nothing.
#[derive(Debug, Default)]
pub struct Reservation {
    /// The share that it is of; none while nothing is reserved.
    share: Option<Arc<ReadShare>>,
    bytes: usize,
    /// Whether it is the reader of its upstream that may exceed the budget.
    exceeds: bool,
    /// The reader waits for room, or did when it was given up.
    waits: bool,
}

impl ReadBudget {
    /// `memory`: the bytes that there are for this process.
    pub fn new(memory: usize, counters: Arc<Counters>) -> Arc<Self> {
        let usual = (memory / MEMORY_PART).min(USUAL_MAX);
        Arc::new(Self {
            usual,
            bytes_max: AtomicUsize::new(usual),
            reserved: Mutex::default(),
            released: Notify::new(),
            counters,
        })
    }

    /// Sets the bound as it is configured, else as it is usual; it holds from now on.
    pub fn set(&self, bytes_max: Option<usize>) {
        let bytes_max = bytes_max.unwrap_or(self.usual);
        if self.bytes_max.swap(bytes_max, Ordering::Relaxed) < bytes_max {
            self.released.notify_waiters();
        }
    }

    pub fn share(self: &Arc<Self>) -> Arc<ReadShare> {
        Arc::new(ReadShare { budget: Arc::clone(self), is_exceeded: AtomicBool::new(false) })
    }

    #[cfg(test)]
    fn reserved(&self) -> usize {
        *self.reserved.lock()
    }
}

impl Reservation {
    /// Counts a reader that holds so many bytes, and may read on; gives back what it no longer
    /// needs. Waits where the budget is used up. Dropped meanwhile, nothing has changed.
    pub async fn hold(&mut self, share: &Arc<ReadShare>, held: usize) {
        self.waits = false;
        if held <= FREE_BYTES && self.bytes == 0 || self.try_hold(share, held) {
            return;
        }
        // Boxed: rare, and large.
        Box::pin(self.wait(share, held)).await;
    }

    async fn wait(&mut self, share: &Arc<ReadShare>, held: usize) {
        share.budget.counters.add(Counter::AnswersHeldBack);
        self.waits = true;
        loop {
            let mut released = pin!(share.budget.released.notified());
            // Before the next look, so that nothing is missed in between.
            released.as_mut().enable();
            if self.try_hold(share, held) {
                self.waits = false;
                return;
            }
            released.await;
        }
    }

    /// Whether the reader waits for room.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Counts it without waiting; false, and nothing has changed, where there is no room.
    fn try_hold(&mut self, share: &Arc<ReadShare>, held: usize) -> bool {
        let needed = held.saturating_sub(FREE_BYTES).next_multiple_of(STEP_BYTES);
        if needed <= self.bytes {
            self.release(self.bytes - needed);
            return true;
        }
        let budget = &share.budget;
        let more = needed - self.bytes;
        let mut reserved = budget.reserved.lock();
        let fits = reserved.saturating_add(more) <= budget.bytes_max.load(Ordering::Relaxed);
        if !fits && !self.exceeds {
            if share.is_exceeded.swap(true, Ordering::AcqRel) {
                return false;
            }
            self.exceeds = true;
        }
        *reserved += more;
        drop(reserved);
        self.bytes = needed;
        self.share.get_or_insert_with(|| Arc::clone(share));
        true
    }

    /// Takes what is reserved, for whom the answer is handed to; none of a small one. This goes on
    /// with nothing reserved.
    pub fn take(&mut self) -> Option<Self> {
        (self.bytes != 0).then(|| std::mem::take(self))
    }

    fn release(&mut self, bytes: usize) {
        let Some(share) = self.share.as_ref().filter(|_| bytes != 0) else { return };
        *share.budget.reserved.lock() -= bytes;
        self.bytes -= bytes;
        if self.bytes == 0 && std::mem::take(&mut self.exceeds) {
            share.is_exceeded.store(false, Ordering::Release);
        }
        share.budget.released.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 8 * STEP_BYTES;
    const ANSWER_MAX: usize = 20 * STEP_BYTES;

    fn budget() -> Arc<ReadBudget> {
        let budget = ReadBudget::new(0, Arc::default());
        budget.set(Some(MAX));
        budget
    }

    proptest! {
        /// Whatever readers of two upstreams hold, wait for and drop: no more is reserved than the
        /// budget and one answer of each upstream, and in the end each of them comes to its end.
        #[test]
        fn the_budget_holds_and_every_answer_can_finish(
            steps in prop::collection::vec(
                (0_usize..12, 0_usize..ANSWER_MAX, any::<bool>()),
                1..300,
            ),
        ) {
            let budget = budget();
            let shares = [budget.share(), budget.share()];
            let mut readers: Vec<_> = (0..12).map(|at| (at % 2, Reservation::default())).collect();
            for (at, held, ends) in steps {
                let (which, reader) = &mut readers[at];
                if ends {
                    *reader = Reservation::default();
                } else {
                    let waits = reader.hold(&shares[*which], held).now_or_never().is_none();
                    prop_assert_eq!(waits, reader.waits());
                }
                let reserved: usize = readers.iter().map(|(_, reader)| reader.bytes).sum();
                prop_assert_eq!(reserved, budget.reserved());
                prop_assert!(reserved <= MAX + 2 * ANSWER_MAX);
            }
            while !readers.is_empty() {
                let before = readers.len();
                readers.retain_mut(|(which, reader)| !reader.try_hold(&shares[*which], ANSWER_MAX));
                prop_assert!(readers.len() < before, "they wait for one another");
            }
            prop_assert_eq!(budget.reserved(), 0);
        }
    }

    #[tokio::test]
    async fn a_reader_that_waits_goes_on_when_another_ends() {
        let budget = budget();
        let share = budget.share();
        let [mut first, mut second, mut third] = std::array::from_fn(|_| Reservation::default());
        first.hold(&share, MAX + FREE_BYTES).await;
        second.hold(&share, 2 * MAX).await; // it exceeds the budget
        third.hold(&share, FREE_BYTES).await; // a small one is not counted
        assert!(third.hold(&share, 2 * FREE_BYTES).now_or_never().is_none() && third.waits());
        let waiting = third.hold(&share, 2 * FREE_BYTES);
        let ending = async {
            tokio::task::yield_now().await;
            drop(second);
        };
        tokio::join!(waiting, ending);
        assert!(!third.waits());
        drop((first, third));
        assert_eq!(budget.reserved(), 0);
    }

    #[tokio::test]
    async fn no_upstream_waits_for_the_answers_of_another() {
        let budget = budget();
        let slow = budget.share();
        let mut stuck: Vec<_> = (0..3).map(|_| Reservation::default()).collect();
        for one in &mut stuck {
            one.hold(&slow, MAX).now_or_never();
        }
        let mut other = Reservation::default();
        other.hold(&budget.share(), ANSWER_MAX).now_or_never().expect("it does not wait");
    }
}
