//! Counts of what there is at one moment.

use std::ops::Deref;

use super::{Counters, names::Gauge};

/// One more of something, until this is dropped.
#[derive(Debug)]
pub struct Raised<C: Deref<Target = Counters>> {
    counters: C,
    gauge: Gauge,
}

impl<C: Deref<Target = Counters>> Raised<C> {
    pub fn new(counters: C, gauge: Gauge) -> Self {
        counters.raise(gauge);
        Self { counters, gauge }
    }
}

impl<C: Deref<Target = Counters>> Drop for Raised<C> {
    fn drop(&mut self) {
        self.counters.lower(self.gauge);
    }
}
