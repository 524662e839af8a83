//! Everything a call needs, for one moment.

use std::{collections::HashMap, sync::Arc};

use crate::{
    auth::AuthorityRegistry,
    cache::{Cache, CacheSubject, SubjectKind},
    call::event::ServerNotification,
    call::{RoutePath, UpstreamName},
    config::Config,
    guard::Guards,
    limit::Limits,
    mcp::{method::Method, splice},
    policy::Rulebook,
    session::Session,
    upstream::{SendError, Upstream},
};

use super::{migration::Migration, route::Route, upstream_entry::UpstreamEntry};

/// Everything a call needs, for one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub config: Arc<Config>,
    pub(super) rules: Arc<Rulebook>,
    pub routes: HashMap<RoutePath, Arc<Route>>,
    pub(super) authorities: AuthorityRegistry,
    pub limits: Arc<Limits>,
    pub guards: Arc<Guards>,
    pub cache: Cache<SendError>,
    pub(super) members: Vec<UpstreamEntry>,
    /// Successors, by the upstreams that have one.
    pub(super) migrations: HashMap<UpstreamName, Arc<Migration>>,
}

impl Snapshot {
    pub fn member(&self, upstream: &UpstreamName) -> Option<&UpstreamEntry> {
        self.members.iter().find(|member| member.upstream.name() == upstream)
    }

    /// The successors of an upstream; none where it has none.
    pub fn migration(&self, upstream: &UpstreamName) -> Option<&Arc<Migration>> {
        if self.migrations.is_empty() { None } else { self.migrations.get(upstream) }
    }

    /// Forgets a resource that is another one now, if that is what its upstream says.
    pub fn heard(&self, upstream: &UpstreamName, notice: &ServerNotification) {
        if notice.method != Some(Method::ResourceUpdated) {
            return;
        }
        let uri = splice::member(&notice.params, "uri").and_then(|uri| uri.try_read::<Box<str>>());
        if let Some(name) = uri {
            let subject =
                CacheSubject { kind: SubjectKind::Resource, upstream: upstream.clone(), name };
            self.cache.forget_one(&subject);
        }
    }

    pub(super) async fn forget_session(&self, session: &Session) {
        let mut elsewhere = session.subscriptions();
        for member in &self.members {
            let own = member.upstream.end_session(session.key).await;
            elsewhere.retain(|uri| !own.contains(uri));
        }
        let Some(route) = self.routes.get(&session.route) else { return };
        for uri in elsewhere {
            let Some(target) = route.find_uri(&uri) else { continue };
            target.upstream.unwant(&target.own);
        }
    }
}

impl Snapshot {
    /// The upstream of this name, where it is behind a route: as one of its own, or as a successor
    /// of one.
    pub fn behind(&self, route: &Route, upstream: &UpstreamName) -> Option<Arc<Upstream>> {
        let own = route.member(upstream).map(|member| Arc::clone(&member.upstream));
        own.or_else(|| self.successors(route).into_iter().find(|it| it.name() == upstream))
    }

    /// A route's own upstreams, and their successors.
    pub fn all_behind(&self, route: &Route) -> Vec<Arc<Upstream>> {
        let own = route.members.iter().map(|member| Arc::clone(&member.upstream));
        own.chain(self.successors(route)).collect()
    }

    /// Upstreams that get calls of a route in the place of its own.
    pub fn successors(&self, route: &Route) -> Vec<Arc<Upstream>> {
        let names = route.members.iter().map(|member| member.upstream.name());
        let canaries = names.filter_map(|name| self.migration(name)?.canary.as_ref());
        canaries.map(|canary| Arc::clone(canary.successor.upstream())).collect()
    }
}
