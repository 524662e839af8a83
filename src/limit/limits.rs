//! All limits of a gate: built from a configuration, and taken from together.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

use futures_util::FutureExt;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    call::{RoutePath, UpstreamName, clock, tasks::Tasks},
    config::Config,
    mcp::method::Method,
    telemetry::{Counter, Counters},
};

use super::{
    applicable::{ApplicableLimits, LimitPoint},
    bucket::Now,
    refusal::LimitRefusal,
    request::{LimitTarget, LimitedRequest, cost, is_limited},
    rule::{self, Rule, RuleBudget},
    section::{LimitSection, UpstreamSection, tools},
    shared::{self, SharedLimits, StoreAway, TakeRequest},
};

/// All limits of a gate, of one configuration. Built anew for the next, it takes over the buckets
/// of each limit, and the places of each cap, that is written as before in the same section.
#[derive(Debug)]
pub struct Limits {
    pub(super) routes: HashMap<RoutePath, LimitSection>,
    upstreams: HashMap<UpstreamName, UpstreamSection>,
    keys_max: usize,
    /// The moment where the time of all buckets begins.
    epoch: Instant,
    /// The store where other gates count, too.
    pub(super) shared: Option<Arc<SharedLimits>>,
    pub(super) tasks: Tasks,
    counters: Arc<Counters>,
}

/// What is left of a budget, for whoever has used most of it.
#[derive(Debug)]
pub struct BudgetLeft {
    /// `route`, `upstream` or `tool`.
    pub kind: &'static str,
    /// The path or the name that its section is of; `UPSTREAM/TOOL` for a tool.
    pub name: String,
    /// The budget as it is written, and what it is per.
    pub budget: String,
    pub amount: u32,
    pub left: u32,
}

impl Limits {
    /// None at all. `tasks` keep a store open, where there is one.
    pub fn new(counters: Arc<Counters>, tasks: Tasks) -> Self {
        let routes = HashMap::new();
        let upstreams = HashMap::new();
        let epoch = Instant::now();
        Self { routes, upstreams, keys_max: 0, epoch, shared: None, tasks, counters }
    }

    /// Builds the limits of the configuration that follows; one with a store needs a runtime.
    pub fn next(&self, config: &Config) -> Arc<Self> {
        let routes = config.routes.iter().map(|route| {
            let before = self.routes.get(&route.path);
            let names = ["route", &route.path];
            let section = LimitSection::build(&names, &route.limits, route.in_flight, before);
            (route.path.clone(), section)
        });
        let upstreams = config.upstreams.iter().map(|upstream| {
            let before = self.upstreams.get(&upstream.name);
            let limits = &upstream.limits;
            let cap = upstream.in_flight;
            let names = ["upstream", &upstream.name];
            let whole =
                LimitSection::build(&names, limits, cap, before.map(|before| &before.whole));
            let tools = tools(&upstream.name, &upstream.tool_settings, before);
            (upstream.name.clone(), UpstreamSection { whole, tools })
        });
        Arc::new(Self {
            routes: routes.collect(),
            upstreams: upstreams.collect(),
            keys_max: config.server.limits.limit_keys_max,
            epoch: self.epoch,
            shared: self.next_shared(config),
            tasks: self.tasks.clone(),
            counters: Arc::clone(&self.counters),
        })
    }

    /// Lets a request in that the gate answers itself: only its route has a say.
    ///
    /// # Errors
    /// As [`Limits::admit`].
    pub async fn admit_here(&self, request: LimitedRequest<'_>) -> Result<(), LimitRefusal> {
        let met = self.applicable(request, None, LimitPoint::Route);
        self.take(&met).await.inspect_err(|refusal| self.count(refusal))
    }

    /// Why this gate counts by itself, where it should not: its store is away.
    pub fn degraded(&self) -> Option<String> {
        let error = self.shared.as_ref()?.away()?;
        Some(format!("limits are not shared: the store is away: {error}"))
    }

    /// Forgets the keys whose buckets are full again.
    pub fn sweep(&self) {
        let now = self.now();
        self.rules().for_each(|rule| rule.sweep(now));
    }

    /// How many keys are remembered.
    pub fn key_count(&self) -> usize {
        self.rules().map(|rule| rule.key_count()).sum()
    }

    /// Returns what is left of each budget.
    pub fn budgets(&self) -> impl Iterator<Item = BudgetLeft> {
        let routes = self.routes.iter().map(|(path, section)| ("route", path.to_string(), section));
        let upstreams = self.upstreams.iter().flat_map(|(name, upstream)| {
            let tools = upstream
                .tools
                .iter()
                .map(move |(tool, one)| ("tool", format!("{name}/{tool}"), &one.section));
            tools.chain([("upstream", name.to_string(), &upstream.whole)])
        });
        let now = self.now();
        routes.chain(upstreams).flat_map(move |(kind, name, section)| {
            section.rules.iter().filter_map(move |rule| {
                let RuleBudget { text: budget, amount, left } = rule.budget_left(now)?;
                Some(BudgetLeft { kind, name: name.clone(), budget, amount, left })
            })
        })
    }

    fn next_shared(&self, config: &Config) -> Option<Arc<SharedLimits>> {
        let settings = config.limit_store.as_ref()?;
        let same = self.shared.as_ref().filter(|shared| shared.settings() == settings);
        let open = || SharedLimits::open(settings.clone(), &self.tasks, Arc::clone(&self.counters));
        Some(same.map_or_else(|| Arc::new(open()), Arc::clone))
    }

    fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let of_upstreams = self.upstreams.values().flat_map(|upstream| {
            let tools = upstream.tools.values().map(|tool| &tool.section);
            tools.chain([&upstream.whole])
        });
        self.routes.values().chain(of_upstreams).flat_map(|section| &section.rules)
    }

    pub(super) fn applicable(
        &self,
        request: LimitedRequest<'_>,
        target: Option<LimitTarget<'_>>,
        place: LimitPoint,
    ) -> ApplicableLimits<'_> {
        let mut met = ApplicableLimits::default();
        if !is_limited(request.method) {
            return met;
        }
        let upstream = target.and_then(|target| self.upstreams.get(target.upstream));
        let tool = target.filter(|_| request.method == Method::ToolsCall);
        let tool = upstream.zip(tool).and_then(|(all, tool)| all.tools.get(tool.name));
        match place {
            LimitPoint::Route => met.sections.extend(self.routes.get(request.route)),
            LimitPoint::Upstream => {
                met.sections.extend(tool.map(|tool| &tool.section));
                met.sections.extend(upstream.map(|upstream| &upstream.whole));
            }
        }
        met.sections.retain(|section| section.is_set());
        if met.sections.is_empty() {
            return met;
        }
        met.cost = tool.map_or(NonZeroU32::MIN, |tool| cost(&tool.cost, request.params));
        let rules = || met.sections.iter().flat_map(|section| &section.rules);
        let keys = rules().map(|rule| (rule, rule.key(request, target))).collect();
        if let Some(shared) = &self.shared {
            let prefix = &shared.settings().prefix;
            let key = |rule: &Arc<Rule>| format!("{prefix}:{}", rule.shared_key(request, target));
            met.shared_keys = rules().map(key).collect();
        }
        met.keys = keys;
        met
    }

    pub(super) async fn reserve(
        &self,
        met: &ApplicableLimits<'_>,
    ) -> Result<Vec<OwnedSemaphorePermit>, LimitRefusal> {
        let caps: Vec<_> = met.sections.iter().filter_map(|section| section.cap.as_ref()).collect();
        let mut places = Vec::with_capacity(caps.len());
        if !caps.is_empty() {
            // Nobody waits for a place who is refused then.
            rule::try_take(&met.keys, met.cost, self.now()).map(drop)?;
        }
        for cap in caps {
            places.push(cap.enter(&self.counters).await?);
        }
        self.take(met).await?;
        Ok(places)
    }

    async fn take(&self, met: &ApplicableLimits<'_>) -> Result<(), LimitRefusal> {
        if met.keys.is_empty() {
            return Ok(());
        }
        let Some(shared) = &self.shared else { return self.take_own(met) };
        // Its type is erased: not everybody has a store.
        match self.take_shared(shared, met).boxed().await {
            Ok(decided) => decided,
            Err(StoreAway) => {
                self.counters.add(Counter::LimitStoreLocal);
                self.take_own(met)
            }
        }
    }

    /// Takes out of the buckets that all gates share, and then out of this gate's own.
    async fn take_shared(
        &self,
        shared: &SharedLimits,
        met: &ApplicableLimits<'_>,
    ) -> Result<Result<(), LimitRefusal>, StoreAway> {
        let now = self.now();
        // This gate alone let in too much: nobody else need be asked.
        if let Err(refusal) = rule::try_take(&met.keys, met.cost, now).map(drop) {
            return Ok(Err(refusal));
        }
        let words = met.keys.iter().flat_map(|(rule, _)| rule.words());
        let arguments = [met.cost.to_string()].into_iter().chain(words).collect();
        let waits = shared.take(&TakeRequest { keys: met.shared_keys.clone(), arguments }).await?;
        if let Some(refusal) = shared::refusal(&met.keys, &waits) {
            return Ok(Err(refusal));
        }
        // The time is that before it was asked for: this gate's buckets are never behind.
        let charged =
            met.keys.iter().map(|(rule, key)| rule.charge(*key, met.cost, self.keys_max, now));
        (0..charged.sum()).for_each(|_| self.counters.add(Counter::LimitKeysEvicted));
        Ok(Ok(()))
    }

    fn take_own(&self, met: &ApplicableLimits<'_>) -> Result<(), LimitRefusal> {
        let now = self.now();
        let forgotten = rule::try_take(&met.keys, met.cost, now)?.commit(self.keys_max, now);
        (0..forgotten).for_each(|_| self.counters.add(Counter::LimitKeysEvicted));
        Ok(())
    }

    pub(super) fn count(&self, refusal: &LimitRefusal) {
        self.counters.add(match refusal {
            LimitRefusal::Rate(_) => Counter::RefusedRate,
            LimitRefusal::Budget(_) => Counter::RefusedBudget,
            LimitRefusal::InFlight => Counter::RefusedInFlight,
            LimitRefusal::Cost => Counter::RefusedCost,
        });
    }

    pub(super) fn now(&self) -> Now {
        Now { elapsed: self.epoch.elapsed(), unix: clock::unix_seconds() }
    }
}
