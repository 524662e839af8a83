//! Holds what waits for callers: bounded in all and by caller, each entry with its deadline.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use crate::call::Caller;

/// Entries by random ids.
#[derive(Debug)]
pub struct DeadlineTable<T> {
    slots: HashMap<u128, Slot<T>>,
    by_caller: HashMap<Caller, usize>,
    deadlines: BTreeSet<(Instant, u128)>,
}

#[derive(Debug)]
struct Slot<T> {
    caller: Caller,
    deadline: Instant,
    value: T,
}

/// There is no room for one more: how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFull {
    All(usize),
    Caller(usize),
}

impl<T> Default for DeadlineTable<T> {
    fn default() -> Self {
        Self { slots: HashMap::new(), by_caller: HashMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<T> DeadlineTable<T> {
    /// Checks that there is room for one more of this caller.
    ///
    /// # Errors
    /// Fails where all callers together, or this one, have as many as they may.
    pub fn room(
        &self,
        caller: &Caller,
        max: usize,
        per_caller_max: usize,
    ) -> Result<(), TableFull> {
        if max <= self.slots.len() {
            return Err(TableFull::All(self.slots.len()));
        }
        let own = self.by_caller.get(caller).copied().unwrap_or_default();
        if per_caller_max <= own { Err(TableFull::Caller(own)) } else { Ok(()) }
    }

    /// `id` must be new.
    pub fn insert(&mut self, id: u128, caller: &Caller, until: Instant, held: T) {
        self.deadlines.insert((until, id));
        *self.by_caller.entry(caller.clone()).or_default() += 1;
        self.slots.insert(id, Slot { caller: caller.clone(), deadline: until, value: held });
    }

    pub fn get(&self, id: u128) -> Option<&T> {
        self.slots.get(&id).map(|spot| &spot.value)
    }

    pub fn remove(&mut self, id: u128) -> Option<T> {
        let spot = self.slots.remove(&id)?;
        self.deadlines.remove(&(spot.deadline, id));
        if let Some(count) = self.by_caller.get_mut(&spot.caller) {
            *count -= 1;
            if *count == 0 {
                self.by_caller.remove(&spot.caller);
            }
        }
        Some(spot.value)
    }

    /// Sets another deadline; nothing where the entry is gone.
    pub fn set_deadline(&mut self, id: u128, until: Instant) {
        let Some(spot) = self.slots.get_mut(&id) else { return };
        self.deadlines.remove(&(spot.deadline, id));
        self.deadlines.insert((until, id));
        spot.deadline = until;
    }

    /// The deadline that is due next.
    pub fn next_deadline(&self) -> Option<(Instant, u128)> {
        self.deadlines.first().copied()
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.slots.into_values().map(|spot| spot.value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_caller_has_its_share_and_all_have_theirs() {
        let caller = |last| Caller::Address([127, 0, 0, last].into());
        let now = Instant::now();
        let mut table = DeadlineTable::default();
        table.insert(1, &caller(1), now + Duration::from_secs(2), "one");
        assert_eq!(table.room(&caller(1), 9, 1), Err(TableFull::Caller(1)));
        assert_eq!(table.room(&caller(2), 9, 1), Ok(()));
        assert_eq!(table.room(&caller(2), 1, 1), Err(TableFull::All(1)));
        table.insert(2, &caller(2), now + Duration::from_secs(1), "two");
        assert_eq!(table.next_deadline().map(|(_, id)| id), Some(2));
        table.set_deadline(2, now + Duration::from_secs(3));
        assert_eq!(table.next_deadline().map(|(_, id)| id), Some(1));
        assert_eq!((table.remove(1), table.remove(1)), (Some("one"), None));
        assert_eq!((table.len(), table.room(&caller(1), 9, 1)), (1, Ok(())));
    }
}
