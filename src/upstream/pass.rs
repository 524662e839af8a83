//! What a request needs to be sent: that it may be, and that there is room for it.

use std::sync::Arc;

use crate::{limit::Admission, policy::Permit};

use super::SendError;

/// Both proofs.
#[derive(Debug, Clone)]
pub struct Pass {
    pub permit: Permit,
    pub admission: Arc<Admission>,
}

impl Pass {
    /// A permit is good for the upstream that it was given for.
    pub(super) fn check(&self, upstream: &str) -> Result<(), SendError> {
        if self.permit.is_for(upstream) {
            return Ok(());
        }
        Err(SendError::Unavailable("this call was permitted for another upstream".to_owned()))
    }
}
