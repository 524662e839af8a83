//! One request for all who ask the same at the same time.
//!
//! Whoever asks first leads; the others wait for what becomes of it. A leader that goes away leaves
//! the lead to one of them, and so does one whose upstream failed, once for each who waits.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    key::Keys,
    shelf::{Kept, Shelf, Subject},
};

/// What became of a flight. `F` is how an upstream fails.
#[derive(Debug, Clone)]
pub enum Landing<F> {
    Kept(Kept),
    /// The answer is for whoever asked, and nobody else.
    Unshared,
    Failed(F),
    /// Its leader went away before the end.
    Abandoned,
}

/// A flight under way, as others see it.
#[derive(Debug)]
pub struct Flight<F> {
    pub subject: Arc<Subject>,
    /// What it brings is not kept: it began before its subject changed.
    pub spoilt: AtomicBool,
    landed: watch::Receiver<Option<Landing<F>>>,
}

/// The duty to ask, for all who wait. Dropped, it goes to one of them.
#[derive(Debug)]
pub struct Lead<F: Clone> {
    shelf: Arc<Shelf<F>>,
    keys: Keys,
    flight: Arc<Flight<F>>,
    landing: watch::Sender<Option<Landing<F>>>,
    /// Its place among the refreshes under way, where nobody waits for it.
    place: Option<OwnedSemaphorePermit>,
}

/// A place among those who wait.
#[derive(Debug)]
pub struct Wait<F: Clone> {
    shelf: Arc<Shelf<F>>,
    keys: Keys,
    flight: Arc<Flight<F>>,
}

/// What to do about a question that is not answered from memory.
#[derive(Debug)]
pub enum Join<F: Clone> {
    Lead(Lead<F>),
    Wait(Wait<F>),
}

impl<F: Clone> Flight<F> {
    pub fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }

    pub fn is_spoilt(&self) -> bool {
        self.spoilt.load(Ordering::Relaxed)
    }
}

/// Joins the flight of these keys, or begins one.
pub fn join<F: Clone>(shelf: &Arc<Shelf<F>>, keys: Keys, subject: &Arc<Subject>) -> Join<F> {
    let (landing, landed) = watch::channel(None);
    let (subject, spoilt) = (Arc::clone(subject), AtomicBool::new(false));
    let own = Arc::new(Flight { subject, spoilt, landed });
    let (shelf, flight) = (Arc::clone(shelf), shelf.board(keys.own, &own));
    if Arc::ptr_eq(&flight, &own) {
        Join::Lead(Lead { shelf, keys, flight, landing, place: None })
    } else {
        Join::Wait(Wait { shelf, keys, flight })
    }
}

impl<F: Clone> Lead<F> {
    /// The answer is here: kept, unless its subject has changed meanwhile, and given to all who
    /// wait.
    pub fn land(self, kept: Kept) {
        let key = if kept.public { self.keys.public } else { self.keys.own };
        self.shelf.put(key, &kept, &self.flight);
        self.tell(Landing::Kept(kept));
    }

    /// The answer is here, and is not for others: each of them asks for itself.
    pub fn unshared(self) {
        self.tell(Landing::Unshared);
    }

    pub fn failed(self, error: F) {
        self.tell(Landing::Failed(error));
    }

    /// What it brings is of this.
    pub fn subject(&self) -> &Subject {
        &self.flight.subject
    }

    /// Holds a place until it is over.
    pub(super) fn holding(mut self, place: OwnedSemaphorePermit) -> Self {
        self.place = Some(place);
        self
    }

    fn tell(&self, landing: Landing<F>) {
        // Nobody waiting is no error.
        self.landing.send(Some(landing)).ok();
    }
}

impl<F: Clone> Drop for Lead<F> {
    fn drop(&mut self) {
        self.shelf.leave(self.keys.own, &self.flight);
    }
}

impl<F: Clone> Wait<F> {
    /// What becomes of it. Safe to drop.
    pub async fn landed(&mut self) -> Landing<F> {
        let mut landed = self.flight.landed.clone();
        let told = landed.wait_for(Option::is_some).await;
        told.ok().and_then(|landing| landing.clone()).unwrap_or(Landing::Abandoned)
    }

    /// Once more, after a flight that brought nothing.
    pub fn again(self) -> Join<F> {
        join(&self.shelf, self.keys, &self.flight.subject)
    }
}
