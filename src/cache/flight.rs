//! A request under way that others wait for, as they see it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;

use super::result::{CacheSubject, CachedResult};

/// How a flight ended. `F` is how an upstream fails.
#[derive(Debug, Clone)]
pub enum FlightResult<F> {
    Cached(CachedResult),
    /// The answer is for whoever asked, and nobody else.
    Private,
    Failed(F),
    /// Its leader went away before the end.
    Abandoned,
}

/// A flight under way, as others see it.
#[derive(Debug)]
pub struct Flight<F> {
    pub subject: Arc<CacheSubject>,
    /// The result is not kept: the flight began before its subject changed.
    pub invalidated: AtomicBool,
    pub(super) result: watch::Receiver<Option<FlightResult<F>>>,
}

impl<F: Clone> Flight<F> {
    pub fn invalidate(&self) {
        self.invalidated.store(true, Ordering::Relaxed);
    }

    pub fn is_invalidated(&self) -> bool {
        self.invalidated.load(Ordering::Relaxed)
    }
}
