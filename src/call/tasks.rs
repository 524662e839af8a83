//! The one place that spawns: every task has a name and an end, and drain waits for all of them. A
//! thread of its own is for what waits for the disk.

use std::{future::Future, io, sync::Arc, thread, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one gate, or of one part of it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Tasks {
    /// Tasks of a part, stopped with the whole or before it.
    pub fn child(&self) -> Self {
        Self { tracker: self.tracker.clone(), stop: self.stop.child_token() }
    }

    /// Runs until done or until [`Tasks::stop`]; being dropped at any await must be safe for
    /// `work`.
    pub fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                // Safe: the caller promises that `work` may be dropped.
                () = stop.cancelled() => tracing::trace!(task = name, "stopped"),
                () = work => tracing::trace!(task = name, "ended"),
            }
        });
    }

    /// Runs to its own end even after [`Tasks::stop`]; drain waits for it.
    pub fn finish(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(work);
    }

    /// Does what takes a core for long, off the workers; none where it did not end. Once begun it
    /// runs to its end, and drain waits for it.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let done = self.tracker.spawn_blocking(work).await;
        if done.as_ref().is_err_and(tokio::task::JoinError::is_panic) {
            tracing::error!("what was done off the workers ended by a panic");
        }
        done.ok()
    }

    pub fn stop(&self) {
        self.stop.cancel();
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until all have ended, `patience` at most; true when they have.
    pub async fn drained(&self, patience: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }
}

/// Work that keeps a processor busy for long, on threads beside those that serve: so much of it at
/// once, and what comes too late is abandoned. A clone shares the places.
#[derive(Debug, Clone)]
pub struct Workers {
    places: Arc<Semaphore>,
    places_max: usize,
    patience: Duration,
}

impl Workers {
    pub fn new(places_max: usize, patience: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(places_max)), places_max, patience }
    }

    /// Goes over to other bounds. What is at work keeps the place that it has.
    pub fn apply(&mut self, places_max: usize, patience: Duration) {
        if self.places_max == places_max {
            self.patience = patience;
        } else {
            *self = Self::new(places_max, patience);
        }
    }

    /// Runs it once there is a place. None where that takes longer than the patience: work that has
    /// begun goes on to its end then, and holds its place, but nobody hears of it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let done = async {
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            let working = tokio::task::spawn_blocking(move || {
                let _place = place;
                work()
            });
            working.await.ok()
        };
        tokio::time::timeout(self.patience, done).await.ok().flatten()
    }
}

/// A thread of its own, which ends by itself once it is told to.
#[derive(Debug)]
pub struct Thread(thread::JoinHandle<()>);

impl Thread {
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        thread::Builder::new().name(name.to_owned()).spawn(work).map(Self)
    }

    /// Waits until it has ended.
    pub async fn ended(self) {
        let joined = tokio::task::spawn_blocking(move || self.0.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("a thread ended by a panic");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use futures_util::{FutureExt as _, future::join_all};

    use super::*;

    /// Work that waits for as much of it as there are places, three rounds of that; gives how much
    /// there was at once at most.
    async fn most_at_once(places: usize) -> usize {
        let workers = Workers::new(places, Duration::from_secs(60));
        let (now, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let all = Arc::new(Barrier::new(places));
        let work = (0..3 * places).map(|at| {
            let (now, most, all) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&all));
            workers.run(move || {
                most.fetch_max(1 + now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                all.wait();
                now.fetch_sub(1, Ordering::SeqCst);
                at
            })
        });
        let done: Vec<_> = join_all(work).await.into_iter().flatten().collect();
        assert_eq!(done, (0..3 * places).collect::<Vec<_>>());
        most.load(Ordering::SeqCst)
    }

    /// With fewer at once none would end.
    #[tokio::test]
    async fn as_much_work_is_done_at_once_as_there_are_places() {
        for places in 1..=10 {
            assert_eq!(most_at_once(places).await, places);
        }
    }

    async fn is_abandoned_and_holds_its_place(places: usize) {
        let mut workers = Workers::new(places, Duration::from_millis(20));
        let (ends, begun) = mpsc::channel::<mpsc::Sender<()>>();
        let slow = (0..places).map(|_| {
            let ends = ends.clone();
            workers.run(move || {
                let (end, ended) = mpsc::channel();
                ends.send(end).ok();
                ended.recv().ok();
            })
        });
        assert!(join_all(slow).await.iter().all(Option::is_none), "abandoned");
        assert_eq!(workers.run(|| ()).await, None, "no place is free");
        workers.apply(places, Duration::from_secs(60));
        let mut waits = Box::pin(workers.run(|| 7));
        assert_eq!(waits.as_mut().now_or_never(), None, "nor with more patience");
        let ends: Vec<_> = (0..places).map(|_| begun.recv().expect("it has begun")).collect();
        drop(ends);
        assert_eq!(waits.await, Some(7), "of {places}");
    }

    /// Nobody waits for longer than the patience; what was begun holds its place to its end.
    #[tokio::test]
    async fn work_that_takes_too_long_is_abandoned_and_holds_its_place() {
        for places in 1..=10 {
            is_abandoned_and_holds_its_place(places).await;
        }
    }
}
