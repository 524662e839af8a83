//! How an upstream is opened, asked by the gateway itself, and closed.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{join_all, select_ok},
};
use tokio::time::timeout;

use crate::{
    call::ReplicaIndex,
    config::Health,
    mcp::{message::Body, method::Method, raw::Raw},
    upstream::{
        cluster::Upstream,
        connection::session::ListingConnection,
        exchange::error::SendError,
        replica::{
            Replica,
            inbox::{ListChange, ServerMessage},
            phase::Phase,
        },
    },
};

impl Upstream {
    /// Begins to open it, or, where it is lazy, to wait for its first call. A lazy one of which
    /// nothing is `listed` is opened at once, or nobody could learn what to call.
    pub fn start(self: &Arc<Self>, listed: bool) {
        for replica in &self.replicas {
            replica.run(listed);
        }
        let Some(health) = self.settings.config.replicas.health else { return };
        for at in self.indexes() {
            let itself = Arc::clone(self);
            let probing = async move { itself.probe(at, health).await };
            self.tasks.spawn("upstream: probe", probing);
        }
    }

    /// Takes over what clients wanted of the one that it replaces: subscriptions and log levels.
    pub fn inherit(&self, predecessor: &Self) {
        // Its section was edited: what made its predecessor die of the probe may be mended.
        for replica in &self.replicas {
            replica.knowledge.distrust();
        }
        self.common.wanted.inherit(&predecessor.common.wanted);
        self.common.levels.lock().extend(predecessor.common.levels.lock().iter());
        // Any of several replicas can have a session: it is moved to where its next call goes.
        for theirs in &predecessor.replicas {
            self.first().inherit_sessions(theirs);
        }
    }

    /// Discards what was only inferred of the servers' era, since an operator may have mended what
    /// it was inferred from. A replica that is not open is opened again now; one that is open is
    /// asked anew when it is opened the next time.
    pub fn doubt_inferred_era(&self) {
        for replica in &self.replicas {
            replica.knowledge.distrust();
            if matches!(*replica.phase.borrow(), Phase::Failed(_)) {
                replica.wake.notify_one();
            }
        }
    }

    /// Asks for the gateway's own sake, on the connection that all share; once more where the
    /// server had forgotten its session.
    ///
    /// # Errors
    /// Where no replica is open, or none answers in time.
    pub async fn ask(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        match self.leader().ask_shared(method, params).boxed().await {
            Err(SendError::SessionGone) => self.leader().ask_shared(method, params).boxed().await,
            answer => answer,
        }
    }

    /// Opens a connection as for a client that can be asked anything: some legacy servers list more
    /// for one. None where every client shares one process anyway, or where one connection lists
    /// all there is.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn asking(&self) -> Result<Option<ListingConnection>, SendError> {
        // Boxed: rare, and large.
        Box::pin(self.leader().open_for_listing()).await
    }

    /// Waits until a replica was opened, or all have failed once. A lazy one of which something is
    /// known is opened by its first call, and not to be waited for.
    pub async fn settled(&self) {
        let each = self.replicas.iter().map(|replica| {
            Box::pin(async move {
                let mut phase = replica.phase.subscribe();
                // The sender lives as long as the replica.
                phase.wait_for(|phase| phase.is_settled()).await.ok();
                let peer = phase.borrow().peer();
                peer.ok_or(())
            })
        });
        drop(select_ok(each).await);
    }

    /// Waits until a replica is open; lazy ones are opened.
    ///
    /// # Errors
    /// Once none can be, or none was within `timeout.open`.
    pub async fn opened(&self) -> Result<(), SendError> {
        let each = self.replicas.iter().map(|replica| Box::pin(replica.shared()));
        let patience = self.settings.config.timeout.open;
        let late = || format!("no replica was open within {patience:?} (`timeout.open`)");
        let opened = timeout(patience, select_ok(each)).await.map(|opened| opened.map(drop));
        opened.unwrap_or_else(|_| Err(SendError::Unavailable(late())))
    }

    /// The replica that leads, or any that is open, or any.
    pub fn leader(&self) -> &Arc<Replica> {
        if let [only] = &*self.replicas {
            return only;
        }
        let leads = self.replicas.get(self.common.lead.place.load(Ordering::Relaxed));
        let open = || self.replicas.iter().find(|replica| replica.is_open());
        leads.filter(|it| it.is_open()).or_else(open).unwrap_or_else(|| self.first())
    }

    fn first(&self) -> &Arc<Replica> {
        self.replicas.first().expect("it is made with one at least")
    }

    /// The next sign that its lists changed; for one reader.
    pub async fn next_list_change(&self) -> ListChange {
        self.common.inbox.next_list_change().await
    }

    /// The next message to clients outside of calls; for one reader.
    pub async fn next_server_message(&self) -> Option<ServerMessage> {
        self.common.inbox.next_server_message().await
    }

    /// Whether it is on its way out: another one of its name may have taken its place.
    pub fn is_retired(&self) -> bool {
        self.common.is_retired()
    }

    /// Waits for the calls under way, `patience` at most, then ends every connection.
    pub async fn retire(&self, patience: Duration) {
        self.common.retired.store(true, Ordering::Relaxed);
        join_all(self.replicas.iter().map(|replica| replica.drain(patience))).await;
        self.tasks.stop();
    }

    async fn probe(&self, at: ReplicaIndex, health: Health) {
        let Some(replica) = self.replicas.get(at.0) else { return };
        loop {
            // Not all at once.
            tokio::time::sleep(health.every.mul_f64(rand::random_range(0.9..=1.1))).await;
            if let Some(well) = replica.answers_probe(health.timeout).await {
                self.standing.probed(at, well);
            }
        }
    }
}
