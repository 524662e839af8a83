//! Bounds of what judges read and keep.

use crate::config::Limits;

/// How much is read and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyBounds {
    pub text_max: usize,
    pub items_max: usize,
    pub grants_max: usize,
    pub decisions_max: usize,
}

impl PolicyBounds {
    pub fn of(limits: &Limits) -> Self {
        Self {
            text_max: limits.judged_text_max,
            items_max: limits.judged_items_max,
            grants_max: limits.grants_max,
            decisions_max: limits.decisions_max,
        }
    }
}
