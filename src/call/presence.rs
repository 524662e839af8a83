//! Whether a client reads what its session is told outside of calls.

use std::sync::Arc;

use tokio::sync::watch;

/// Counts the readers of one session's client.
#[derive(Debug, Default)]
pub struct Presence(watch::Sender<usize>);

/// A reader, until this is dropped.
#[derive(Debug)]
pub struct PresenceGuard(Arc<Presence>);

impl Presence {
    /// A reader comes.
    pub fn enter(self: &Arc<Self>) -> PresenceGuard {
        self.0.send_modify(|readers| *readers += 1);
        PresenceGuard(Arc::clone(self))
    }

    /// Tells of each that comes or goes.
    pub fn follow(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

impl Drop for PresenceGuard {
    fn drop(&mut self) {
        self.0.0.send_modify(|readers| *readers -= 1);
    }
}
