//! Chooses the replica that leads: hears of changes, and lists for all.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::call::ReplicaIndex;

/// The choice of the replica that leads.
#[derive(Debug)]
pub struct Leader {
    pub place: AtomicUsize,
    free: Arc<Semaphore>,
}

/// The right to lead; once this is dropped, another replica may have it.
#[derive(Debug)]
pub struct LeaderGuard(#[allow(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>);

impl Leader {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { place: AtomicUsize::new(0), free: Arc::new(Semaphore::new(1)) })
    }

    pub fn try_take(&self, place: ReplicaIndex) -> Option<LeaderGuard> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        self.place.store(place.0, Ordering::Relaxed);
        Some(LeaderGuard(Some(permit)))
    }

    /// Waits until no other leads. Safe to drop.
    pub async fn take(&self, place: ReplicaIndex) -> LeaderGuard {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok();
        self.place.store(place.0, Ordering::Relaxed);
        LeaderGuard(permit)
    }
}
