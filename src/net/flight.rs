//! Single flight: work that several callers want at once is done once for all of them.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// Work under way, by what it is for.
#[derive(Debug)]
pub struct Flights<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

/// A place of those who wait; the last takes the work off the list.
struct Place<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: K,
    cell: Arc<OnceCell<V>>,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    /// Runs `work`, or waits for the same work of somebody who came earlier. Where that one is
    /// dropped, another of those who wait begins its own.
    pub async fn join(&self, key: K, work: impl Future<Output = V>) -> V {
        let cell = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        let place = Place { flights: self, key, cell };
        place.cell.get_or_init(|| work).await.clone()
    }
}

impl<K: Eq + Hash, V> Drop for Place<'_, K, V> {
    fn drop(&mut self) {
        let mut all = self.flights.0.lock();
        let own = all.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // Its own and the list's: nobody else waits. Once done it is of no use to who comes later.
        if own && (self.cell.initialized() || Arc::strong_count(&self.cell) == 2) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::future::join_all;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_many_want_is_done_once_and_then_anew() {
        let (flights, done) = (Flights::<u8, usize>::default(), AtomicUsize::new(0));
        let work = || async {
            tokio::task::yield_now().await;
            done.fetch_add(1, Ordering::SeqCst)
        };
        let all = join_all((0..50).map(|_| flights.join(1, work()))).await;
        assert!(all.iter().all(|value| *value == 0), "{all:?}");
        assert_eq!(flights.join(1, work()).await, 1);
        assert!(flights.0.lock().is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_is_replaced() {
        let flights = Flights::<u8, u8>::default();
        let mut first = Box::pin(flights.join(1, std::future::pending()));
        let mut second = Box::pin(flights.join(1, std::future::ready(2)));
        assert!(timeout(Duration::ZERO, &mut first).await.is_err(), "it is under way");
        assert!(timeout(Duration::ZERO, &mut second).await.is_err(), "it waits for that");
        drop(first);
        assert_eq!(second.await, 2);
        assert!(flights.0.lock().is_empty());
    }
}
