//! The room for records: a call reserves it when it begins, and gives it back once its record is on
//! the disk.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::Mutex;

/// Bytes that a row of the file has beside its record: its number, its hash, and their headers.
const ROW_BYTES: usize = 128;

/// How much may be under way or wait for the disk, and how much of it there is now.
#[derive(Debug)]
pub struct Room {
    count_max: usize,
    /// The writer sets it: 0 while nothing more can be written.
    bytes_max: AtomicUsize,
    count: AtomicUsize,
    bytes: AtomicUsize,
    /// Whether what was to be written last could not be.
    failing: AtomicBool,
    /// Why no more can be written now, for operators.
    fault: Mutex<Option<String>>,
    /// Whether the gate ends, and nothing more is taken.
    closed: AtomicBool,
    /// Whether the writer was asked to look at its file, and has not yet.
    look_asked: AtomicBool,
}

/// The room that one record has, until it is dropped.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// Makes room for `count_max` records of `bytes_max` bytes together.
    pub fn new(count_max: usize, bytes_max: usize) -> Self {
        Self {
            count_max,
            bytes_max: AtomicUsize::new(bytes_max),
            count: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            fault: Mutex::default(),
            closed: AtomicBool::new(false),
            look_asked: AtomicBool::new(false),
        }
    }

    /// Reserves room for a record of at most so many bytes, and says how much that is; none where
    /// there is not as much. Whoever reserves it makes a [`Place`] of it, once.
    pub fn reserve(&self, record_bytes: usize) -> Option<usize> {
        let bytes = record_bytes.saturating_add(ROW_BYTES);
        // The room is taken first and looked at then: two that come together never have one room.
        let count = self.count.fetch_add(1, Ordering::AcqRel);
        let held = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let fits = held.saturating_add(bytes) <= self.bytes_max.load(Ordering::Acquire);
        if fits && count < self.count_max {
            return Some(bytes);
        }
        self.give_back(bytes);
        None
    }

    /// Returns how many records are under way or wait.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether nothing is under way and nothing waits.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Sets how many bytes may be under way and wait. What is written gives its room back after
    /// this is told of it, so that nothing is counted as free twice.
    pub fn set_bytes_max(&self, bytes: usize) {
        self.bytes_max.store(bytes, Ordering::Release);
    }

    pub fn bytes_max(&self) -> usize {
        self.bytes_max.load(Ordering::Acquire)
    }

    /// Says whether records can be written, and whether they could be before.
    pub fn set_failing(&self, failing: bool) -> bool {
        self.failing.swap(failing, Ordering::AcqRel)
    }

    /// Sets why no more can be written now; none where it can.
    pub fn set_fault(&self, fault: Option<String>) {
        *self.fault.lock() = fault;
    }

    /// Returns why no more can be written now; none where it can.
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().clone()
    }

    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Notes whether the writer is asked to look at its file; says whether it was before.
    pub fn set_look_asked(&self, asked: bool) -> bool {
        self.look_asked.swap(asked, Ordering::AcqRel)
    }

    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

impl Place {
    /// Makes the part that was reserved of this room: its owner gives it back.
    pub fn new(room: &Arc<Room>, reserved: usize) -> Self {
        Self { room: Arc::clone(room), bytes: reserved }
    }

    /// Bytes that the record may have.
    pub fn record_bytes_max(&self) -> usize {
        self.bytes.saturating_sub(ROW_BYTES)
    }

    /// Gives back what a record of so many bytes does not need.
    pub fn shrink(&mut self, record_bytes: usize) {
        let spare = self.record_bytes_max().saturating_sub(record_bytes);
        self.bytes -= spare;
        self.room.bytes.fetch_sub(spare, Ordering::AcqRel);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is reserved, cut and dropped in whatever order: never more is out than there
        /// is, and in the end all of it is back.
        #[test]
        fn no_room_is_given_twice_and_none_is_lost(
            steps in prop::collection::vec((0_usize..3, 0_usize..4_000), 1..200),
            (count_max, bytes_max) in (1_usize..20, 0_usize..20_000),
        ) {
            let room = Arc::new(Room::new(count_max, bytes_max));
            let mut places = Vec::new();
            for (step, bytes) in steps {
                match step {
                    0 => places.extend(room.reserve(bytes).map(|bytes| Place::new(&room, bytes))),
                    1 => drop(places.pop()),
                    _ => places.iter_mut().for_each(|place: &mut Place| place.shrink(bytes)),
                }
                let held: usize = places.iter().map(|place| place.bytes).sum();
                prop_assert_eq!(held, room.bytes.load(Ordering::Acquire));
                prop_assert!(held <= bytes_max && places.len() <= count_max);
            }
            drop(places);
            prop_assert_eq!(room.bytes.load(Ordering::Acquire), 0);
            prop_assert_eq!(room.count.load(Ordering::Acquire), 0);
        }
    }
}
