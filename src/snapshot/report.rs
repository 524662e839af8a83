//! Reports the gate to those who look: the built-in server, the command line.

use crate::{
    builtin::report::{
        BreakerStatus, BudgetReport, CanaryReport, ListSource, OtherName, ReplicaReport, Report,
        RouteReport, UpstreamReport, UpstreamState,
    },
    call::{ListKind, UpstreamName, clock},
    catalog::{Collision, Remark},
    guard::Schemas,
    limit::BudgetLeft,
    mcp::version::{Era, Version},
    resilience::BreakerState,
    upstream,
};

use super::{Gate, Route, Snapshot, UpstreamEntry};

/// Remarks about entries of one upstream in a report.
const REMARKS_MAX: usize = 100;
/// Entries with another name that are shown of one route.
const OTHER_NAMES_MAX: usize = 100;

impl Gate {
    /// A look at everything, cheap enough to be taken for every question.
    pub fn report(&self) -> Report {
        let snapshot = self.snapshot();
        let routes =
            snapshot.config.routes.iter().filter_map(|route| snapshot.routes.get(&route.path));
        let mut counters = self.counters.read();
        counters.insert("parked_now".to_owned(), self.lot.count() as u64);
        counters.insert("sessions_now".to_owned(), self.sessions.count() as u64);
        let unwritten = self.audit.as_ref().map_or(0, |audit| audit.unwritten());
        counters.insert("audit_unwritten_now".to_owned(), unwritten as u64);
        let audit_fault = self.audit.as_ref().and_then(|audit| audit.fault());
        counters.insert("audit_stuck_now".to_owned(), audit_fault.is_some().into());
        let edit_refused = self.edit_refused.lock().clone();
        counters.insert("edit_refused_now".to_owned(), edit_refused.is_some().into());
        let without_store = snapshot.limits.degraded().is_some();
        counters.insert("limit_store_degraded_now".to_owned(), without_store.into());
        counters.insert("limit_keys_now".to_owned(), snapshot.limits.key_count() as u64);
        counters.insert("linked_now".to_owned(), self.linked.count() as u64);
        let replicas = || snapshot.members.iter().flat_map(|it| it.upstream.status().replicas);
        let ready =
            replicas().filter(|replica| replica.state == upstream::ConnectionState::Ready).count();
        let ejected = replicas().filter(|replica| replica.ejected).count();
        counters.insert("replicas_ready_now".to_owned(), ready as u64);
        counters.insert("replicas_out_now".to_owned(), ejected as u64);
        let (results, bytes) = snapshot.cache.size();
        counters.insert("cache_entries_now".to_owned(), results);
        counters.insert("cache_bytes_now".to_owned(), bytes);
        counters.insert("views_bytes_now".to_owned(), self.offers.bytes() as u64);
        counters.insert("tasks_now".to_owned(), self.lot.tasks.count() as u64);
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.uptime().as_secs(),
            routes: routes.map(|route| route.report()).collect(),
            upstreams: snapshot
                .members
                .iter()
                .map(|member| member.report(&snapshot, &self.schemas))
                .collect(),
            counters,
            budgets: snapshot.limits.budgets().map(budget).collect(),
            certificates: self.certificates.report(&snapshot.config),
            degraded: self.degradations(&snapshot),
            edit_refused,
        }
    }
}

impl Route {
    fn report(&self) -> RouteReport {
        let troubled = self.members.iter().filter(|member| member.state() != UpstreamState::Ready);
        RouteReport {
            path: self.settings.path.to_string(),
            tools: self.largest_view().offer.count(ListKind::Tools),
            prompts: self.largest_view().offer.count(ListKind::Prompts),
            resources: self.largest_view().offer.count(ListKind::Resources),
            templates: self.largest_view().offer.count(ListKind::Templates),
            degraded: troubled.map(|member| member.upstream.name().to_string()).collect(),
            other_names: self
                .names
                .collisions
                .iter()
                .take(OTHER_NAMES_MAX)
                .map(other_name)
                .collect(),
        }
    }
}

impl UpstreamEntry {
    /// Returns where it stands: degraded while it is not open and its last known lists are served,
    /// or its breaker lets a few calls through only.
    pub fn state(&self) -> UpstreamState {
        let listed = self.catalog.listing().is_some();
        let breaker = self.upstream.look().state;
        match self.upstream.status().state {
            upstream::ConnectionState::Ready if breaker == Some(BreakerState::Open) => {
                UpstreamState::Tripped
            }
            upstream::ConnectionState::Ready if breaker == Some(BreakerState::HalfOpen) => {
                UpstreamState::Degraded
            }
            upstream::ConnectionState::Ready if self.catalog.error().is_some() => {
                UpstreamState::Degraded
            }
            upstream::ConnectionState::Ready => UpstreamState::Ready,
            upstream::ConnectionState::Idle => UpstreamState::Idle,
            upstream::ConnectionState::Opening | upstream::ConnectionState::Failed if listed => {
                UpstreamState::Degraded
            }
            upstream::ConnectionState::Opening => UpstreamState::Opening,
            upstream::ConnectionState::Failed => UpstreamState::Failed,
        }
    }

    fn report(&self, snapshot: &Snapshot, schemas: &Schemas) -> UpstreamReport {
        let status = self.upstream.status();
        let look = self.upstream.look();
        let listing = self.catalog.listing();
        let count = |kind| listing.as_ref().map_or(0, |listing| listing.items(kind).len());
        let all = self.catalog.remarks();
        let remarks = |is: &dyn Fn(&Remark) -> bool| -> Vec<String> {
            let each = all.iter().filter(|(_, one)| is(one)).take(REMARKS_MAX);
            each.map(|(kind, one)| format!("{} {:?}: {}", kind.entry_name(), one.entry, one.what))
                .collect()
        };
        let source =
            if self.catalog.is_confirmed() { ListSource::Upstream } else { ListSource::Disk };
        UpstreamReport {
            name: self.upstream.name().to_string(),
            kind: self.upstream.kind(),
            state: self.state(),
            era: status.version.map(spoken),
            server: status.info.as_ref().and_then(server),
            tools: count(ListKind::Tools),
            prompts: count(ListKind::Prompts),
            resources: count(ListKind::Resources),
            templates: count(ListKind::Templates),
            listed_from: listing.is_some().then_some(source),
            last_words: status.last_words,
            last_error: status.last_error.or_else(|| self.catalog.error()),
            since: status.times.since.map(clock::rfc3339),
            last_try: status.times.last_try.map(clock::rfc3339),
            next_try: status.times.next_try.map(clock::rfc3339),
            restarts: status.restarts,
            calls: status.calls,
            failures: status.failures,
            processes: status.processes,
            lists: self
                .catalog
                .troubles()
                .into_iter()
                .map(|(list, why)| (list.to_owned(), why))
                .collect(),
            left_out: remarks(&|one| one.left_out),
            mended: remarks(&|one| !one.left_out),
            unusable_schemas: schemas.unusable(self.upstream.name()),
            replicas: status.replicas.into_iter().map(replica).collect(),
            canary: snapshot.canary(self.upstream.name()),
            breaker: look.state.map(breaker),
            breaker_opened: look.opened,
            breaker_refused: look.refused,
            retries_left: look.retries_left,
            tool_breakers: look.tools.into_iter().map(|(name, at)| (name, breaker(at))).collect(),
        }
    }
}

impl Snapshot {
    /// Trials of successors that were taken back, and why.
    pub(super) fn trials_rolled_back(&self) -> Vec<String> {
        let trials = self.members.iter().filter_map(|member| {
            let name = member.upstream.name();
            let CanaryReport { upstream, back, .. } = self.canary(name)?;
            Some(format!("upstream `{name}`: the trial of `{upstream}` is rolled back: {}", back?))
        });
        trials.collect()
    }

    fn canary(&self, upstream: &UpstreamName) -> Option<CanaryReport> {
        let trial = &self.migration(upstream)?.canary.as_ref()?.state;
        let settings = &trial.settings;
        let weight = if trial.is_rolled_back() { 0 } else { settings.weight };
        Some(CanaryReport {
            upstream: settings.upstream.to_string(),
            weight,
            back: trial.rolled_back_because(),
        })
    }
}

fn budget(left: BudgetLeft) -> BudgetReport {
    let BudgetLeft { kind, name, budget, amount, left } = left;
    BudgetReport { kind, name, budget, amount, left }
}

fn other_name(collision: &Collision) -> OtherName {
    OtherName {
        kind: collision.kind.member().to_owned(),
        name: collision.name.clone(),
        upstream: collision.owner.upstream.to_string(),
        own: collision.owner.own.clone(),
        why: collision.why.to_string(),
    }
}

fn replica(status: upstream::ReplicaStatus) -> ReplicaReport {
    let state = match status.state {
        upstream::ConnectionState::Idle => UpstreamState::Idle,
        upstream::ConnectionState::Opening => UpstreamState::Opening,
        upstream::ConnectionState::Ready => UpstreamState::Ready,
        upstream::ConnectionState::Failed => UpstreamState::Failed,
    };
    let upstream::ReplicaStatus { url, ejected, ill, tripped, in_flight, calls, .. } = status;
    ReplicaReport { url, state, ejected, ill, tripped, in_flight, calls }
}

fn breaker(standing: BreakerState) -> BreakerStatus {
    match standing {
        BreakerState::Closed => BreakerStatus::Closed,
        BreakerState::Open => BreakerStatus::Open,
        BreakerState::HalfOpen => BreakerStatus::HalfOpen,
    }
}

fn spoken(version: Version) -> String {
    match version.era() {
        Era::Modern => version.to_string(),
        Era::Legacy => format!("legacy {version}"),
    }
}

fn server(info: &crate::mcp::raw::Raw) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Implementation {
        name: String,
        #[serde(default)]
        version: String,
    }
    let info: Implementation = info.try_read()?;
    Some(format!("{} {}", info.name, info.version).trim().to_owned())
}
