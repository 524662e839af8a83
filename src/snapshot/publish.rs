//! Builds the next snapshot, swaps it in, and announces what changed.

use std::{collections::HashMap, sync::Arc};

use crate::{
    auth::{AuthContext, AuthorityRegistry},
    call::UpstreamName,
    catalog::{self, Filters, cell::CatalogCell},
    config::Config,
    policy::{PolicyBounds, Rulebook},
    upstream::{Settings, Upstream},
};

use super::{
    current::Snapshot,
    gate::Gate,
    migration,
    route::{Ground, Route},
    upstream_entry::{UpstreamEntry, contains, split_identity},
};

impl Gate {
    /// Goes over to a configuration and its policies: unchanged upstreams stay as they are, others
    /// are opened or retired.
    pub fn apply(&self, config: Arc<Config>, rules: Rulebook) {
        let building = self.building.lock();
        let earlier = self.snapshot();
        let limits = &config.server.limits;
        self.context.openings.resize(limits.openings_max);
        self.context.reading.set(limits.incoming_answers_bytes_max);
        let names: Vec<_> = config.upstreams.iter().map(|one| one.name.as_str()).collect();
        self.schemas.apply(limits, &names);
        let members: Vec<_> = config
            .upstreams
            .iter()
            .map(|section| {
                let (config, filters) = split_identity(section);
                let settings = Settings { config, answer_bytes_max: limits.answer_bytes_max };
                let same = |member: &&UpstreamEntry| member.upstream.settings == settings;
                let bounds = catalog::ListBounds::of(limits);
                let member = match earlier.members.iter().find(same) {
                    Some(member) => UpstreamEntry { filters, ..member.clone() },
                    None => self.member(settings, bounds, filters, &earlier),
                };
                member.catalog.set_bounds(bounds);
                member.upstream.protect(section);
                member
            })
            .collect();
        let gone: Vec<_> =
            earlier.members.iter().filter(|member| !contains(&members, member)).cloned().collect();
        let drain = limits.drain;
        self.counters.set_call_metrics_max(limits.call_metrics_max);
        self.offers.set_bytes_max(limits.views_bytes_max);
        self.publish(&earlier, config, Arc::new(rules), members, false);
        drop(building);
        self.applied.send_replace(());
        for member in gone {
            self.tasks.finish(async move {
                member.upstream.retire(drain).await;
                member.tasks.stop();
            });
        }
    }

    fn member(
        &self,
        settings: Settings,
        bounds: catalog::ListBounds,
        filters: Arc<Filters>,
        earlier: &Snapshot,
    ) -> UpstreamEntry {
        let predecessor = earlier.member(&settings.config.name);
        let shelf = predecessor.map(|member| &*member.catalog);
        let shelf = CatalogCell::open(&settings.config, &self.store, shelf, bounds);
        let upstream = Upstream::new(settings, &self.context);
        if let Some(predecessor) = predecessor {
            upstream.inherit(&predecessor.upstream);
        }
        let tasks = self.tasks.child();
        upstream.start(shelf.listing().is_some());
        let keeping = catalog::keep(
            Arc::clone(&upstream),
            Arc::clone(&shelf),
            Arc::clone(&self.counters),
            Arc::clone(&self.schemas),
            self.changes.clone(),
        );
        tasks.spawn("catalog: keep", keeping);
        UpstreamEntry { upstream, catalog: shelf, tasks, filters }
    }

    fn means(&self) -> AuthContext {
        AuthContext {
            net: self.context.net.clone(),
            tasks: self.tasks.clone(),
            counters: Arc::clone(&self.counters),
        }
    }

    pub(super) fn relist(&self, upstream: &UpstreamName) {
        let _building = self.building.lock();
        let earlier = self.snapshot();
        let shelf =
            earlier.member(upstream).map(|member| (&member.catalog, member.catalog.version()));
        let config = Arc::clone(&earlier.config);
        let rules = Arc::clone(&earlier.rules);
        self.publish(&earlier, config, rules, earlier.members.clone(), true);
        if let Some((shelf, version)) = shelf {
            shelf.published(version);
        }
    }

    /// Builds the next snapshot, swaps it in, and announces what changed. `relisted` says that all
    /// but lists is what it was.
    pub(super) fn publish(
        &self,
        earlier: &Snapshot,
        config: Arc<Config>,
        rules: Arc<Rulebook>,
        members: Vec<UpstreamEntry>,
        relisted: bool,
    ) {
        let authorities = AuthorityRegistry::build(&config, &earlier.authorities, &self.means());
        let guards = match relisted {
            true => Arc::clone(&earlier.guards),
            false => Arc::new(earlier.guards.next(&config, &rules)),
        };
        self.names.follow(&config);
        let ground = Ground {
            guards: &guards,
            members: &members,
            offers: &self.offers,
            counters: &self.counters,
            bounds: PolicyBounds::of(&config.server.limits),
            relisted,
            ledger: &self.names,
            kept: config.server.limits.names_kept,
        };
        let mut routes = HashMap::new();
        let mut announced = Vec::new();
        for settings in &config.routes {
            let before = earlier.routes.get(&settings.path);
            let policies = rules.of(&settings.path).map(Arc::clone);
            let door = authorities.route_auth(settings, &self.counters);
            let route = Arc::new(Route::build(settings, door, policies, ground, before));
            route.report_left_out(before.map(Arc::as_ref), &self.counters);
            for push in route.changes(before.map(Arc::as_ref)) {
                announced.push((Arc::clone(&route), push));
            }
            routes.insert(settings.path.clone(), route);
        }
        let limits = earlier.limits.next(&config);
        let migrations = migration::build(&config, &members, &earlier.migrations);
        let is_same = |name: &str| {
            let member = members.iter().find(|member| member.upstream.name() == name);
            member.is_some_and(|member| contains(&earlier.members, member))
        };
        let cache = earlier.cache.next(&config, is_same);
        let next = Snapshot {
            config,
            rules,
            routes,
            authorities,
            limits,
            guards,
            cache,
            members,
            migrations,
        };
        self.current.store(Arc::new(next));
        for (route, push) in announced {
            // Nobody listening is no error.
            route.pushes.send(push).ok();
        }
    }
}
