//! The memory that values take while they are held to schemas, all together.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Bytes that are shared by all values that are being checked. A value waits until there is room
/// for it, on a thread that is there for checks alone.
#[derive(Debug)]
pub struct ValueMemory {
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    held: usize,
    bytes_max: usize,
    patience: Duration,
}

/// Bytes that are given back when it is dropped.
#[derive(Debug)]
pub struct HeldMemory<'a> {
    memory: &'a ValueMemory,
    bytes: usize,
}

/// Why there is no room for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoMemory {
    /// It takes more than all values together may (`schema_values_bytes_max`).
    Beyond { bytes: usize, bytes_max: usize },
    /// Others took it for longer than anybody waits (`schema_patience`).
    Late,
}

impl ValueMemory {
    pub fn new(bytes_max: usize, patience: Duration) -> Self {
        let state = Mutex::new(State { held: 0, bytes_max, patience });
        Self { state, freed: Condvar::new() }
    }

    /// Goes over to other bounds. What is held stays held.
    pub fn apply(&self, bytes_max: usize, patience: Duration) {
        let mut state = self.state.lock();
        (state.bytes_max, state.patience) = (bytes_max, patience);
        drop(state);
        self.freed.notify_all();
    }

    /// Takes so many bytes, and blocks the thread until they are free.
    ///
    /// # Errors
    /// Where they are more than there are at all, or others give none back in time.
    pub fn take(&self, bytes: usize) -> Result<HeldMemory<'_>, NoMemory> {
        let mut state = self.state.lock();
        let patience = state.patience;
        let is_full = |state: &mut State| {
            bytes <= state.bytes_max && state.bytes_max < state.held.saturating_add(bytes)
        };
        let is_late = self.freed.wait_while_for(&mut state, is_full, patience).timed_out();
        let bytes_max = state.bytes_max;
        if bytes_max < bytes {
            return Err(NoMemory::Beyond { bytes, bytes_max });
        }
        if is_late {
            return Err(NoMemory::Late);
        }
        state.held += bytes;
        Ok(HeldMemory { memory: self, bytes })
    }
}

impl Drop for HeldMemory<'_> {
    fn drop(&mut self) {
        self.memory.state.lock().held -= self.bytes;
        self.memory.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    /// Eleven at once, of all sizes: never more bytes than there are, and each has its turn.
    #[test]
    fn no_more_is_held_than_there_is_and_each_has_its_turn() {
        let memory = ValueMemory::new(10, Duration::from_secs(60));
        let [now, most] = [0, 0].map(AtomicUsize::new);
        let takes = |bytes: usize| {
            let held = memory.take(bytes).unwrap();
            most.fetch_max(bytes + now.fetch_add(bytes, Ordering::SeqCst), Ordering::SeqCst);
            thread::yield_now();
            now.fetch_sub(bytes, Ordering::SeqCst);
            drop(held);
        };
        thread::scope(|scope| {
            for bytes in 0..=10 {
                let takes = &takes;
                scope.spawn(move || (0..50).for_each(|_| takes(bytes)));
            }
        });
        let most = most.into_inner();
        assert!((1..=10).contains(&most), "{most}");
        assert_eq!(memory.state.lock().held, 0);
    }

    #[test]
    fn what_is_too_much_or_too_late_is_told_apart() {
        let memory = ValueMemory::new(10, Duration::from_millis(5));
        assert_eq!(memory.take(11).unwrap_err(), NoMemory::Beyond { bytes: 11, bytes_max: 10 });
        let held = memory.take(6).unwrap();
        assert_eq!(memory.take(5).unwrap_err(), NoMemory::Late);
        let more = memory.take(4).unwrap();
        drop(held);
        memory.apply(4, Duration::from_millis(5));
        assert_eq!(memory.take(5).unwrap_err(), NoMemory::Beyond { bytes: 5, bytes_max: 4 });
        assert_eq!(memory.take(1).unwrap_err(), NoMemory::Late);
        drop(more);
        assert_eq!(memory.take(4).unwrap().bytes, 4);
    }
}
