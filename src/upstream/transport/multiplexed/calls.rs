//! The calls under way on a connection that several share.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::{call::event::Event, upstream::transport::read_budget::Reservation};

use super::Origin;

/// The calls under way, by their ids.
#[derive(Debug, Default)]
pub(super) struct Calls {
    pub slots: HashMap<u64, Slot>,
    /// The bytes that large answers count as until they are passed on.
    answered: HashMap<u64, Reservation>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub events: mpsc::Sender<Event>,
    pub origin: Origin,
}

impl Calls {
    /// Ends a call, if there is one, with an answer that counts as `reserved`.
    pub fn answer(&mut self, id: u64, reserved: &mut Option<Reservation>) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        self.answered.extend(reserved.take().map(|reserved| (id, reserved)));
        Some(slot)
    }

    /// Takes the bytes that the answer of a call counts as, for whom it is handed to.
    pub fn take_reservation(&mut self, id: u64) -> Option<Reservation> {
        if self.answered.is_empty() { None } else { self.answered.remove(&id) }
    }

    /// Forgets a call; false where it has been answered.
    pub fn forget(&mut self, id: u64) -> bool {
        if !self.answered.is_empty() {
            self.answered.remove(&id);
        }
        self.slots.remove(&id).is_some()
    }
}
