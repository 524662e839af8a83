//! Makes one request for all who ask the same at the same time.
//!
//! The first who asks leads; the others wait for what becomes of it. A leader that goes away leaves
//! the lead to one of them, and so does one whose upstream failed, once for each who waits.

use std::sync::{Arc, atomic::AtomicBool};

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    flight::{Flight, FlightResult},
    key::CacheKeys,
    result::{CacheSubject, CachedResult},
    store::Store,
};

/// The duty to ask, for all who wait. Dropped, it goes to one of them.
#[derive(Debug)]
pub struct FlightLeader<F: Clone> {
    store: Arc<Store<F>>,
    keys: CacheKeys,
    flight: Arc<Flight<F>>,
    result: watch::Sender<Option<FlightResult<F>>>,
    /// Its place among the refreshes under way, where nobody waits for it.
    refresh_permit: Option<OwnedSemaphorePermit>,
}

/// A place among those who wait.
#[derive(Debug)]
pub struct Follower<F: Clone> {
    store: Arc<Store<F>>,
    keys: CacheKeys,
    flight: Arc<Flight<F>>,
}

/// Whether a caller asks the upstream itself, or waits for another's answer.
#[derive(Debug)]
pub enum JoinOutcome<F: Clone> {
    Leader(FlightLeader<F>),
    Follower(Follower<F>),
}

/// Joins the flight of these keys, or begins one.
pub fn join<F: Clone>(
    shelf: &Arc<Store<F>>,
    keys: CacheKeys,
    subject: &Arc<CacheSubject>,
) -> JoinOutcome<F> {
    let (landing, landed) = watch::channel(None);
    let subject = Arc::clone(subject);
    let spoilt = AtomicBool::new(false);
    let own = Arc::new(Flight { subject, invalidated: spoilt, result: landed });
    let store = Arc::clone(shelf);
    let flight = store.join_or_lead(keys.own, &own);
    if Arc::ptr_eq(&flight, &own) {
        JoinOutcome::Leader(FlightLeader {
            store,
            keys,
            flight,
            result: landing,
            refresh_permit: None,
        })
    } else {
        JoinOutcome::Follower(Follower { store, keys, flight })
    }
}

impl<F: Clone> FlightLeader<F> {
    /// The answer is here: kept, unless its subject has changed meanwhile, and given to all who
    /// wait.
    pub fn complete(self, kept: CachedResult) {
        let key = if kept.public { self.keys.public } else { self.keys.own };
        self.store.put(key, &kept, &self.flight);
        self.publish(FlightResult::Cached(kept));
    }

    /// The answer is here, and is not for others: each of them asks for itself.
    pub fn complete_private(self) {
        self.publish(FlightResult::Private);
    }

    pub fn fail(self, error: F) {
        self.publish(FlightResult::Failed(error));
    }

    /// The tool or resource that the result is of.
    pub fn subject(&self) -> &CacheSubject {
        &self.flight.subject
    }

    /// Holds a place until it is over.
    pub(super) fn with_refresh_permit(mut self, place: OwnedSemaphorePermit) -> Self {
        self.refresh_permit = Some(place);
        self
    }

    fn publish(&self, landing: FlightResult<F>) {
        // Nobody waiting is no error.
        self.result.send(Some(landing)).ok();
    }
}

impl<F: Clone> Drop for FlightLeader<F> {
    fn drop(&mut self) {
        self.store.finish(self.keys.own, &self.flight);
    }
}

impl<F: Clone> Follower<F> {
    /// Waits for the result. Safe to drop.
    pub async fn result(&mut self) -> FlightResult<F> {
        let mut landed = self.flight.result.clone();
        let told = landed.wait_for(Option::is_some).await;
        told.ok().and_then(|landing| landing.clone()).unwrap_or(FlightResult::Abandoned)
    }

    /// Joins once more, after a flight that brought nothing.
    pub fn rejoin(self) -> JoinOutcome<F> {
        join(&self.store, self.keys, &self.flight.subject)
    }
}
