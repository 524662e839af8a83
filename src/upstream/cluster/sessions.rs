//! Wishes of legacy clients outside of calls, and the replica that each of their sessions is at.

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::join_all;

use crate::{
    call::{ReplicaIndex, SessionKey, UpstreamRequest},
    config::Transport,
    mcp::{message::Body, method::Method, raw::Raw},
    resilience::affinity,
    upstream::{
        cluster::Upstream, connection::select::Scope, exchange::error::SendError, proof::Clearance,
        replica::Replica,
    },
};

impl Upstream {
    /// Subscribes for a legacy client, or ends that: on the client's own connection where it has
    /// one, else on the one that all share.
    ///
    /// # Errors
    /// Where the clearance is for another upstream, no replica is open, or the server refuses.
    pub(in crate::upstream) async fn subscribe(
        &self,
        ask: &UpstreamRequest,
        uri: &str,
        clearance: &Clearance,
    ) -> Result<Body, SendError> {
        clearance.check(self)?;
        let replica = self.replica_for(ask).await?;
        replica.check_caller(ask)?;
        if let (Scope::Session(key), _) = replica.scope(ask).await? {
            return replica.subscribe_in_session(key, ask, uri).await;
        }
        if ask.method == Method::Subscribe {
            self.want(uri, clearance).await?;
        } else {
            self.unwant(uri);
        }
        Ok(Body::Result(Raw::object().into()))
    }

    /// Whether a session has a connection of its own here.
    pub fn has_own(&self, key: SessionKey) -> bool {
        self.replicas.iter().any(|replica| replica.session_connection(key).is_some())
    }

    /// Hears of `uri` on the connection that all share from now on. Dropped or failed, this changes
    /// nothing.
    ///
    /// # Errors
    /// Where the clearance is for another upstream, no replica is open, or the server refuses.
    pub(in crate::upstream) async fn want(
        &self,
        uri: &str,
        clearance: &Clearance,
    ) -> Result<(), SendError> {
        clearance.check(self)?;
        self.leader().shared().await?;
        self.common.wanted.add(uri).await
    }

    /// Undoes one [`Upstream::want`].
    pub fn unwant(&self, uri: &str) {
        self.common.wanted.remove(uri);
    }

    /// Passes on what a legacy client says outside of calls, to its own connection if it has one.
    pub async fn notify(&self, key: SessionKey, method: Method, params: &Raw) {
        let own = self.replicas.iter().filter_map(|replica| replica.session_connection(key));
        join_all(own.map(async |connection| {
            if let Err(error) = connection.notify(method, params).await {
                let upstream = self.name().as_str();
                tracing::debug!(upstream, %error, "a notification was not taken");
            }
        }))
        .await;
    }

    /// Tells the log level that a legacy client wants: to its own connection if it has one, else
    /// the lowest that any client wants to the shared ones.
    pub async fn set_level(&self, key: SessionKey, level: &str) {
        let has_own = self.has_own(key);
        let told = self.replicas.iter();
        let told = told.filter(|replica| !has_own || replica.session_connection(key).is_some());
        join_all(told.map(|replica| replica.tell_level_of(key, level))).await;
    }

    /// Ends the connections of a client whose session is over. Returns what it subscribed to there.
    pub async fn end_session(&self, key: SessionKey) -> BTreeSet<String> {
        self.homes.lock().remove(&key);
        self.common.levels.lock().remove(&key);
        let ends = self.replicas.iter().map(|replica| replica.close_session(key));
        join_all(ends).await.into_iter().flatten().collect()
    }

    /// The replica that a client's session is at, or is to be at now; the only one at once.
    async fn replica_for(&self, ask: &UpstreamRequest) -> Result<&Arc<Replica>, SendError> {
        if let [only] = &*self.replicas {
            return Ok(only);
        }
        self.opened().await?;
        let closed = || SendError::Unavailable("no replica is open".to_owned());
        let at = self.choose(ask, &[]).ok_or_else(closed)?;
        self.settle_home(at, ask);
        self.replicas.get(at.0).ok_or_else(closed)
    }

    /// Whether a legacy client's session may have a connection of its own at one of these replicas.
    pub fn keeps_sessions_at(&self, candidates: &[ReplicaIndex]) -> bool {
        let mut them = candidates.iter().filter_map(|at| self.replicas.get(at.0));
        matches!(self.settings.config.transport, Transport::Http { .. })
            && them.any(|replica| replica.keeps_sessions())
    }

    /// Whether a request is of a session that stays with one replica.
    pub fn is_homed(&self, ask: &UpstreamRequest) -> bool {
        let all: Vec<_> = self.indexes().collect();
        ask.session.is_some() && self.keeps_sessions_at(&all)
    }

    /// The replica of a session, where it is known, or where the session is to be now.
    pub fn home(&self, key: SessionKey, candidates: &[ReplicaIndex]) -> Option<ReplicaIndex> {
        let known = self.homes.lock().get(&key).copied();
        if let Some(known) = known.filter(|at| candidates.contains(at)) {
            return Some(known);
        }
        let nodes = candidates.iter().filter_map(|at| Some((*at, self.ids.get(at.0)?.0)));
        affinity::rendezvous(key.number(), nodes)
    }

    /// Notes that a session is at a replica from now on. What it subscribed to elsewhere is
    /// subscribed to there with its next call.
    pub fn settle_home(&self, at: ReplicaIndex, ask: &UpstreamRequest) {
        let Some(key) = ask.session else { return };
        let before = self.homes.lock().insert(key, at);
        if before == Some(at) {
            return;
        }
        let others = self.replicas.iter().enumerate().filter(|(other, _)| *other != at.0);
        let left: BTreeSet<String> =
            others.flat_map(|(_, replica)| replica.take_subscribed(key)).collect();
        if let Some(replica) = self.replicas.get(at.0).filter(|_| !left.is_empty()) {
            replica.subscribes_anew(key, left);
        }
    }
}
