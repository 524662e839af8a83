//! Tells others of a call: the cache, a successor that is compared, and the audit log; with the
//! answer, or where the call is dropped before.

use std::sync::Arc;

use crate::{
    audit::{Entry, Full},
    mcp::message::Body,
    pipeline::{
        context::Context,
        event::ClientEvent,
        fault::Fault,
        request::{
            cache::InvalidateOnDrop,
            resolve::Resolved,
            shadow::{self, Shadowed},
        },
    },
    upstream::Clearance,
};

/// The observers of a call. Dropped, it drops what the call made outdated, and its record says that
/// nobody waited any more.
#[derive(Debug, Default)]
pub struct Observe {
    /// The call's record.
    pub entry: Option<Arc<Entry>>,
    /// Cached results to drop when the call ends.
    pub invalidate: Option<InvalidateOnDrop>,
    /// The comparison of the answer with a successor's.
    pub shadow: Option<Shadowed>,
}

impl Observe {
    /// Notes what a call that is sent makes outdated, and who is to compare its answer. By its own
    /// upstream's name, whoever gets it.
    pub fn of_sent(&mut self, context: &Context, request: &Resolved, clearance: &Clearance) {
        self.shadow = shadow::begin(context, request, clearance);
        self.invalidate = InvalidateOnDrop::of(context, request);
    }

    /// The call has its answer, in the server's words: before the client has it, so that what that
    /// asks next finds nothing outdated.
    pub fn answered(&mut self, body: &Body) {
        drop(self.invalidate.take());
        if let Some(shadow) = self.shadow.take() {
            shadow.answered(body);
        }
    }

    /// The client is to be told this.
    ///
    /// # Errors
    /// Where it is the answer, which cannot be recorded: it is not given then.
    pub fn told(&self, event: &ClientEvent) -> Result<(), Fault> {
        match (event, &self.entry) {
            (ClientEvent::Answer { body, .. }, Some(entry)) => {
                entry.answered(body).map_err(|Full| Fault::UnrecordedAnswer)
            }
            (ClientEvent::Message(_) | ClientEvent::Paused(_), _) | (_, None) => Ok(()),
        }
    }

    /// The call failed.
    pub fn failed(&self, fault: &Fault) {
        if let Some(entry) = &self.entry {
            entry.failed(fault.reason());
        }
    }
}
