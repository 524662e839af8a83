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
    /// For a copy of a request, which nobody waits for.
    pub fn without_places(&self) -> Self {
        let admission = Arc::new(self.admission.without_places());
        Self { permit: self.permit.clone(), admission }
    }

    /// For the upstream that takes the other's place by configuration.
    pub fn at_successor(&self, upstream: &str) -> Self {
        let admission = Arc::clone(&self.admission);
        Self { permit: self.permit.at_successor(upstream), admission }
    }

    /// A permit is good for the upstream that it was given for.
    pub(super) fn check(&self, upstream: &str) -> Result<(), SendError> {
        if self.permit.is_for(upstream) {
            return Ok(());
        }
        Err(SendError::Unavailable("this call was permitted for another upstream".to_owned()))
    }
}
