//! The limits that one request meets at one place.

use std::{num::NonZeroU32, sync::Arc};

use super::{rule::Rule, section::LimitSection};

/// A place of the two at which a request meets limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitPoint {
    Route,
    Upstream,
}

/// Limits that one request meets at one place: the narrowest section first, so that a call that
/// waits for a place of its tool holds none that others could use.
pub(super) struct ApplicableLimits<'a> {
    pub(super) sections: Vec<&'a LimitSection>,
    pub(super) keys: Vec<(&'a Arc<Rule>, u64)>,
    /// Keys of the same limits in a store; empty where there is none.
    pub(super) shared_keys: Vec<String>,
    pub(super) cost: NonZeroU32,
}

impl Default for ApplicableLimits<'_> {
    fn default() -> Self {
        let sections = Vec::new();
        let keys = Vec::new();
        let shared_keys = Vec::new();
        Self { sections, keys, shared_keys, cost: NonZeroU32::MIN }
    }
}
