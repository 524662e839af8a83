//! Names are recorded before anything is served under them.

use std::{sync::Arc, time::Duration};

use crate::catalog::ledger::Claimed;

use super::{Gate, RouteSnapshot};

/// How often it is looked whether another process changed the ledger of names, or whether it can be
/// written again.
const LOOK: Duration = Duration::from_secs(2);

/// Attempts to record the names of one request; more than one is rare, since only another process
/// can have been first.
const ATTEMPTS_MAX: usize = 4;

impl Gate {
    /// Goes on with what another process made of the names, for as long as the gate runs.
    pub async fn follow_names(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.names.follow_others().await {
                self.renamed().await;
            }
        }
    }

    /// Names everything anew, off the workers.
    async fn renamed(self: &Arc<Self>) {
        let gate = Arc::clone(self);
        self.tasks.blocking(move || gate.rename()).await;
    }

    /// Names everything anew, by what is recorded now.
    fn rename(&self) {
        let _building = self.building.lock();
        let earlier = self.snapshot();
        let config = Arc::clone(&earlier.config);
        let rules = Arc::clone(&earlier.rules);
        self.publish(&earlier, config, rules, earlier.members.clone(), true);
    }
}

impl RouteSnapshot {
    /// Has all names of the route recorded; at once where nothing is new, else the route is the one
    /// of now.
    pub async fn record_names(&mut self) {
        if !self.route.is_recorded() {
            // Boxed: rare, and large.
            Box::pin(self.record()).await;
        }
    }

    async fn record(&mut self) {
        // The upstream that is first in the route comes first, as long as nothing was served.
        self.settled_early(None).await;
        let gate = Arc::clone(&self.gate);
        let _turn = gate.naming.lock().await;
        for _ in 0..ATTEMPTS_MAX {
            self.renew();
            if self.route.is_recorded() {
                return;
            }
            match gate.names.claim(&self.route.settings.path, &self.route.names).await {
                Claimed::All => return self.route.set_recorded(),
                Claimed::Refused | Claimed::Failed => gate.renamed().await,
            }
        }
        self.renew();
    }
}
