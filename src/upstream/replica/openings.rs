//! How many processes are opened at once, so that servers which start together do not start in each
//! other's way; and when all have been opened for the first time.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use crate::telemetry::{Counter, Counters};

/// A process that has not answered after this long waits for something else than the processor: the
/// next one may start. A server that hangs thus keeps no other from being opened.
const TURN_MAX: Duration = Duration::from_secs(10);

/// The openings of all upstreams of a gate.
#[derive(Debug)]
pub struct Openings {
    /// Places for processes that keep an upstream open, and for those that calls wait for: a call
    /// does not stand behind a start of many.
    places: Mutex<[Arc<Semaphore>; 2]>,
    /// The number of first openings that have neither succeeded nor failed.
    first: watch::Sender<usize>,
    counters: Arc<Counters>,
}

/// The purpose that a process is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Keeps its upstream open and its lists known.
    Upstream,
    Call,
}

/// An opening that may go on; the next one follows when it is dropped.
#[derive(Debug)]
pub struct Turn(Option<OwnedSemaphorePermit>);

/// An upstream's first opening, until this is dropped.
#[derive(Debug)]
pub struct First(Arc<Openings>);

impl Openings {
    /// `openings_max` is that of `[server.limits]`.
    pub fn new(openings_max: usize, counters: Arc<Counters>) -> Arc<Self> {
        let places = Mutex::new(places(openings_max));
        Arc::new(Self { places, first: watch::Sender::new(0), counters })
    }

    /// Sets how many are opened at once from now on, besides those that are being opened.
    pub fn resize(&self, openings_max: usize) {
        *self.places.lock() = places(openings_max);
    }

    /// Waits until a process may be opened. Safe to drop.
    pub async fn turn(&self, upstream: &str, purpose: Purpose) -> Turn {
        let places = {
            let [upstreams, calls] = &*self.places.lock();
            Arc::clone(if purpose == Purpose::Call { calls } else { upstreams })
        };
        if let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
            return Turn(Some(permit));
        }
        self.counters.add(Counter::OpeningsWaited);
        tracing::debug!(upstream, "waits for its turn to be opened (`limits.openings_max`)");
        // The semaphore is never closed.
        Turn(places.acquire_owned().await.ok())
    }

    /// An upstream's first opening begins.
    pub fn first(self: &Arc<Self>) -> First {
        self.first.send_modify(|count| *count += 1);
        First(Arc::clone(self))
    }

    /// Waits until all upstreams were opened once, or failed. Safe to drop.
    pub async fn all_tried(&self) {
        // The sender lives as long as this.
        self.first.subscribe().wait_for(|count| *count == 0).await.ok();
    }
}

impl Turn {
    /// A turn without an order, for what takes nothing of the processor.
    pub fn none() -> Self {
        Self(None)
    }

    /// Does what it is the turn of; the next one's turn comes with its end, or after [`TURN_MAX`].
    pub async fn spend<T>(self, opening: impl Future<Output = T>) -> T {
        let mut opening = pin!(opening);
        if self.0.is_some()
            && let Ok(opened) = timeout(TURN_MAX, &mut opening).await
        {
            return opened;
        }
        drop(self);
        opening.await
    }
}

impl Drop for First {
    fn drop(&mut self) {
        self.0.first.send_modify(|count| *count = count.saturating_sub(1));
    }
}

fn places(openings_max: usize) -> [Arc<Semaphore>; 2] {
    [(), ()].map(|()| Arc::new(Semaphore::new(openings_max)))
}
