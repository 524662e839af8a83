//! What waits for callers: bounded in all and by caller, each entry with its deadline.

use std::collections::{BTreeSet, HashMap};

use tokio::time::Instant;

use crate::call::Caller;

/// Entries by random ids.
#[derive(Debug)]
pub struct Table<T> {
    spots: HashMap<u128, Spot<T>>,
    by_caller: HashMap<Caller, usize>,
    deadlines: BTreeSet<(Instant, u128)>,
}

#[derive(Debug)]
struct Spot<T> {
    caller: Caller,
    until: Instant,
    held: T,
}

/// There is no room for one more: how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    All(usize),
    Caller(usize),
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { spots: HashMap::new(), by_caller: HashMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<T> Table<T> {
    /// Whether there is room for one more of this caller.
    pub fn room(&self, caller: &Caller, max: usize, per_caller_max: usize) -> Result<(), Full> {
        if max <= self.spots.len() {
            return Err(Full::All(self.spots.len()));
        }
        let own = self.by_caller.get(caller).copied().unwrap_or_default();
        if per_caller_max <= own { Err(Full::Caller(own)) } else { Ok(()) }
    }

    /// `id` must be new.
    pub fn insert(&mut self, id: u128, caller: &Caller, until: Instant, held: T) {
        self.deadlines.insert((until, id));
        *self.by_caller.entry(caller.clone()).or_default() += 1;
        self.spots.insert(id, Spot { caller: caller.clone(), until, held });
    }

    pub fn get(&self, id: u128) -> Option<&T> {
        self.spots.get(&id).map(|spot| &spot.held)
    }

    pub fn remove(&mut self, id: u128) -> Option<T> {
        let spot = self.spots.remove(&id)?;
        self.deadlines.remove(&(spot.until, id));
        if let Some(count) = self.by_caller.get_mut(&spot.caller) {
            *count -= 1;
            if *count == 0 {
                self.by_caller.remove(&spot.caller);
            }
        }
        Some(spot.held)
    }

    /// Sets another deadline; nothing where the entry is gone.
    pub fn keep(&mut self, id: u128, until: Instant) {
        let Some(spot) = self.spots.get_mut(&id) else { return };
        self.deadlines.remove(&(spot.until, id));
        self.deadlines.insert((until, id));
        spot.until = until;
    }

    /// The deadline that is due next.
    pub fn first(&self) -> Option<(Instant, u128)> {
        self.deadlines.first().copied()
    }

    pub fn len(&self) -> usize {
        self.spots.len()
    }

    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.spots.into_values().map(|spot| spot.held)
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
        let mut table = Table::default();
        table.insert(1, &caller(1), now + Duration::from_secs(2), "one");
        assert_eq!(table.room(&caller(1), 9, 1), Err(Full::Caller(1)));
        assert_eq!(table.room(&caller(2), 9, 1), Ok(()));
        assert_eq!(table.room(&caller(2), 1, 1), Err(Full::All(1)));
        table.insert(2, &caller(2), now + Duration::from_secs(1), "two");
        assert_eq!(table.first().map(|(_, id)| id), Some(2));
        table.keep(2, now + Duration::from_secs(3));
        assert_eq!(table.first().map(|(_, id)| id), Some(1));
        assert_eq!((table.remove(1), table.remove(1)), (Some("one"), None));
        assert_eq!((table.len(), table.room(&caller(1), 9, 1)), (1, Ok(())));
    }
}
