//! A cap on calls under way: a place for each, and a bounded wait for one, first come, first
//! served.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    config::InFlight,
    telemetry::{Counter, Counters, Gauge, Raised},
};

use super::LimitRefusal;

#[derive(Debug)]
pub struct Cap {
    pub settings: InFlight,
    places: Arc<Semaphore>,
}

impl Cap {
    pub fn new(settings: InFlight) -> Self {
        Self { settings, places: Arc::new(Semaphore::new(settings.max)) }
    }

    /// A place, which is free again when it is dropped. Safe to drop: whoever waits leaves the
    /// queue.
    ///
    /// # Errors
    /// Where none becomes free in time.
    pub async fn enter(&self, counters: &Counters) -> Result<OwnedSemaphorePermit, LimitRefusal> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        if self.settings.wait.is_zero() {
            return Err(LimitRefusal::InFlight);
        }
        counters.add(Counter::WaitedInFlight);
        let _waiting = Raised::new(counters, Gauge::WaitingCalls);
        let place = timeout(self.settings.wait, Arc::clone(&self.places).acquire_owned()).await;
        place.ok().and_then(Result::ok).ok_or(LimitRefusal::InFlight)
    }
}
