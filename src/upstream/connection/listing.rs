//! When it is learned what an upstream lists only for clients that can be asked in mid-call: that
//! may take a process of its own, which is not to start while all others do.

use crate::{
    config::{Isolation, Transport},
    mcp::version::Era,
    upstream::{cluster::Upstream, replica::Replica},
};

impl Upstream {
    /// Waits until that is due: at once where it takes no process, else when a client that can be
    /// asked is there, or when all upstreams have been opened once. Safe to drop.
    pub async fn asking_due(&self) {
        if !self.leader().takes_process_to_ask() {
            return;
        }
        let mut expected = self.common.asked.subscribe();
        tokio::select! {
            // Both are states: nothing is lost with either.
            () = self.context.openings.all_tried() => (),
            // The sender lives as long as this.
            _ = expected.wait_for(|expected| *expected) => (),
        }
    }

    /// A client that can be asked is there, and wants to know the lists.
    pub fn expect_asked(&self) {
        // The change is told once: whoever waits is not to be woken for nothing.
        self.common.asked.send_if_modified(|expected| !std::mem::replace(expected, true));
    }
}

impl Replica {
    /// Whether such a list is read over a process that is opened for it.
    fn takes_process_to_ask(&self) -> bool {
        let config = &self.settings.config;
        matches!(config.transport, Transport::Stdio { .. })
            && config.isolation != Isolation::Shared
            && self.phase.borrow().peer().is_none_or(|peer| peer.version.era() == Era::Legacy)
    }
}
