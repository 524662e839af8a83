//! How much may be asked for: rates and budgets by caller, client, route, upstream and tool, and
//! caps on calls under way.
//!
//! A request meets limits twice. Those of its route let it in, before anything is done for it
//! ([`Limits::admit_route`]); those of its upstream and its tool admit each time that it is sent
//! there, when nothing but they stands between it and the server ([`Limits::admit`]). All limits
//! met at one of the two are decided together: what one refuses counts in none of them. Nothing
//! else makes the two proofs, without which `upstream` sends nothing.

mod admission;
mod bucket;
mod cap;
mod keys;
mod rule;
mod shared;
#[cfg(feature = "internals")]
pub mod reference;

use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures_util::FutureExt;
use serde::de::IgnoredAny;
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{
    call::{Caller, Client, clock, tasks::Tasks},
    config::{self, Config, Cost, InFlight, Limit},
    mcp::{method::Method, raw::Raw, splice},
    telemetry::{Counter, Counters},
};

pub use self::admission::{Admission, RouteAdmission};
use self::{
    admission::Taken,
    bucket::Now,
    cap::Cap,
    rule::Rule,
    shared::{SharedLimits, StoreAway, TakeRequest},
};

/// The member of a call's params that has what the tool is asked for.
const ARGUMENTS: &str = "arguments";

/// All limits of a gate, of one configuration. Built anew for the next, it takes over the buckets
/// of each limit, and the places of each cap, that is written as before in the same section.
#[derive(Debug)]
pub struct Limits {
    routes: HashMap<Arc<str>, Section>,
    upstreams: HashMap<String, Upstream>,
    keys_max: usize,
    /// Where the time of all buckets begins.
    epoch: Instant,
    /// Where other gates count, too.
    shared: Option<Arc<SharedLimits>>,
    tasks: Tasks,
    counters: Arc<Counters>,
}

/// A request, as limits see it.
#[derive(Debug, Clone, Copy)]
pub struct LimitedRequest<'a> {
    pub method: Method,
    pub caller: &'a Caller,
    pub client: &'a Client,
    pub route: &'a str,
    /// The request's params in full: a tool's cost may be one of its arguments.
    pub params: &'a Raw,
}

/// An upstream that a request is sent to, and its own name for the thing.
#[derive(Debug, Clone, Copy)]
pub struct LimitTarget<'a> {
    pub upstream: &'a str,
    pub name: &'a str,
}

/// Why a request was not let in; what it says is for clients, and is nothing of the limit itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitRefusal {
    /// There is enough again after so long.
    #[error(
        "Too much was asked for in too short a time; nothing was done. Try again in {} s.",
        seconds(*.0)
    )]
    Rate(Duration),
    #[error(
        "What may be asked for in this day or month is used up; nothing was done. Try again in {} \
         s.",
        seconds(*.0)
    )]
    Budget(Duration),
    #[error("Too many calls are under way; nothing was done. Try again shortly.")]
    InFlight,
    /// The request costs more than there ever is.
    #[error("This asks for more at once than is ever let through; nothing was done. Ask for less.")]
    Cost,
}

/// The limits of one section.
#[derive(Debug, Default)]
struct Section {
    rules: Vec<Arc<Rule>>,
    cap: Option<Arc<Cap>>,
}

#[derive(Debug)]
struct Upstream {
    whole: Section,
    tools: HashMap<String, Tool>,
}

#[derive(Debug)]
struct Tool {
    cost: Cost,
    section: Section,
}

/// At which of the two places a request meets limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LimitPoint {
    Route,
    Upstream,
}

/// Limits that one request meets at one place: the narrowest section first, so that a call that
/// waits for a place of its tool holds none that others could use.
struct ApplicableLimits<'a> {
    sections: Vec<&'a Section>,
    keys: Vec<(&'a Arc<Rule>, u64)>,
    /// Keys of the same limits in a store; empty where there is none.
    shared_keys: Vec<String>,
    cost: NonZeroU32,
}

impl Limits {
    /// None at all. `tasks` keep a store open, where there is one.
    pub fn new(counters: Arc<Counters>, tasks: Tasks) -> Self {
        let (routes, upstreams, epoch) = (HashMap::new(), HashMap::new(), Instant::now());
        Self { routes, upstreams, keys_max: 0, epoch, shared: None, tasks, counters }
    }

    /// Builds the limits of the configuration that follows; one with a store needs a runtime.
    pub fn next(&self, config: &Config) -> Arc<Self> {
        let routes = config.routes.iter().map(|route| {
            let before = self.routes.get(&*route.path);
            let names = ["route", &route.path];
            let section = Section::build(&names, &route.limits, route.in_flight, before);
            (Arc::from(&*route.path), section)
        });
        let upstreams = config.upstreams.iter().map(|upstream| {
            let before = self.upstreams.get(&upstream.name);
            let (limits, cap) = (&upstream.limits, upstream.in_flight);
            let names = ["upstream", &upstream.name];
            let whole = Section::build(&names, limits, cap, before.map(|before| &before.whole));
            let tools = tools(&upstream.name, &upstream.tool_settings, before);
            (upstream.name.clone(), Upstream { whole, tools })
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

    /// Lets a request in that is to be sent on, by the limits of its route, as soon as there is a
    /// place for it.
    ///
    /// # Errors
    /// Where a rate or a budget has not enough left, or no place becomes free in time. Nothing is
    /// taken from any limit then.
    pub async fn admit_route(
        self: &Arc<Self>,
        request: LimitedRequest<'_>,
        target: LimitTarget<'_>,
    ) -> Result<RouteAdmission, LimitRefusal> {
        let met = self.applicable(request, Some(target), LimitPoint::Route);
        let places = self.reserve(&met).await.inspect_err(|refusal| self.count(refusal))?;
        let known = self.routes.get_key_value(request.route);
        let route = known.map_or_else(|| Arc::from(request.route), |(path, _)| Arc::clone(path));
        let places = (!places.is_empty()).then(|| Arc::from(places));
        let cost = Some(met.cost).filter(|_| !met.keys.is_empty());
        Ok(RouteAdmission { limits: Arc::clone(self), route, cost, _places: places })
    }

    /// Admits one send of a request, by the limits of its upstream and its tool, as soon as there
    /// are places for it.
    ///
    /// # Errors
    /// As [`Limits::admit_route`].
    pub async fn admit(
        self: &Arc<Self>,
        request: LimitedRequest<'_>,
        target: LimitTarget<'_>,
    ) -> Result<Admission, LimitRefusal> {
        let met = self.applicable(request, Some(target), LimitPoint::Upstream);
        if met.sections.is_empty() {
            return Ok(Admission { taken: None });
        }
        let places = self.reserve(&met).await.inspect_err(|refusal| self.count(refusal))?;
        let rules = met.keys.iter().map(|(rule, key)| (Arc::clone(rule), *key)).collect();
        let taken = Taken {
            limits: Arc::clone(self),
            rules,
            cost: met.cost,
            at: self.now(),
            given_back: AtomicBool::new(false),
            _places: places,
            shared_keys: met.shared_keys,
        };
        Ok(Admission { taken: Some(Arc::new(taken)) })
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

    fn applicable(
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

    async fn reserve(
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

    /// Out of the buckets that all gates share, and then out of this gate's own.
    async fn take_shared(
        &self,
        shared: &SharedLimits,
        met: &ApplicableLimits<'_>,
    ) -> Result<Result<(), LimitRefusal>, StoreAway> {
        let now = self.now();
        // What this gate alone let in is too much: nobody else need be asked.
        if let Err(refusal) = rule::try_take(&met.keys, met.cost, now).map(drop) {
            return Ok(Err(refusal));
        }
        let words = met.keys.iter().flat_map(|(rule, _)| rule.words());
        let arguments = [met.cost.to_string()].into_iter().chain(words).collect();
        let waits = shared.take(&TakeRequest { keys: met.shared_keys.clone(), arguments }).await?;
        if let Some(refusal) = shared::refusal(&met.keys, &waits) {
            return Ok(Err(refusal));
        }
        // By the time before it was asked for: this gate's buckets are never behind.
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

    fn count(&self, refusal: &LimitRefusal) {
        self.counters.add(match refusal {
            LimitRefusal::Rate(_) => Counter::RefusedRate,
            LimitRefusal::Budget(_) => Counter::RefusedBudget,
            LimitRefusal::InFlight => Counter::RefusedInFlight,
            LimitRefusal::Cost => Counter::RefusedCost,
        });
    }

    fn now(&self) -> Now {
        Now { elapsed: self.epoch.elapsed(), unix: clock::unix_seconds() }
    }
}

impl Section {
    /// Whether it limits anything.
    fn is_set(&self) -> bool {
        self.cap.is_some() || !self.rules.is_empty()
    }

    /// `names` tell the section from all others.
    fn build(
        names: &[&str],
        limits: &[Limit],
        in_flight: Option<InFlight>,
        before: Option<&Self>,
    ) -> Self {
        let mut earlier = before.map(|before| before.rules.clone()).unwrap_or_default();
        let mut rule = |(at, limit): (usize, &Limit)| {
            // Of two that are alike each has its own.
            if let Some(same) = earlier.iter().position(|rule| rule.is(limit)) {
                return earlier.remove(same);
            }
            let alike = limits.iter().take(at).filter(|other| *other == limit).count();
            Arc::new(Rule::new(limit, names, alike))
        };
        let rules = limits.iter().enumerate().map(&mut rule).collect();
        let cap = in_flight.map(|settings| {
            let earlier = before.and_then(|before| before.cap.as_ref());
            let same = earlier.filter(|cap| cap.settings == settings);
            same.map_or_else(|| Arc::new(Cap::new(settings)), Arc::clone)
        });
        Self { rules, cap }
    }
}

impl Default for ApplicableLimits<'_> {
    fn default() -> Self {
        let (sections, keys, shared_keys) = (Vec::new(), Vec::new(), Vec::new());
        Self { sections, keys, shared_keys, cost: NonZeroU32::MIN }
    }
}

impl LimitRefusal {
    /// When the same request may be let in; none where it never is.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Rate(wait) | Self::Budget(wait) => Some(wait),
            Self::InFlight => Some(cap::RETRY_AFTER),
            Self::Cost => None,
        }
    }
}

/// Whole seconds, rounded up.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(0 < wait.subsec_nanos())
}

/// Whether limits hold for this method. A request that ends something is let in always, and so is a
/// sign of life.
fn is_limited(method: Method) -> bool {
    !matches!(method, Method::Ping | Method::TasksCancel | Method::Unsubscribe)
}

/// The cost of a call, 1 at least.
fn cost(cost: &Cost, params: &Raw) -> NonZeroU32 {
    let said = match cost {
        Cost::Flat(cost) => *cost,
        Cost::Argument(names) => {
            let path = [ARGUMENTS].into_iter().chain(names.iter().map(String::as_str));
            let found = path.fold(vec![params.clone()], |found, name| {
                found.iter().flat_map(|object| members(object, name)).collect()
            });
            found.iter().map(amount).fold(0, u32::saturating_add)
        }
    };
    NonZeroU32::new(said).unwrap_or(NonZeroU32::MIN)
}

/// A name that stands there twice counts twice: servers differ in which of them they read.
fn members(object: &Raw, name: &str) -> Vec<Raw> {
    let all = if object.is_object() { splice::entries(object) } else { Vec::new() };
    all.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
}

/// How much an argument asks for: what is neither an array nor a number is one thing.
fn amount(argument: &Raw) -> u32 {
    if let Some(items) = argument.try_read::<Vec<IgnoredAny>>() {
        return u32::try_from(items.len()).unwrap_or(u32::MAX);
    }
    // Beyond what a number can be here it is as much as there is.
    let beyond = match argument.bytes().first() {
        Some(b'0'..=b'9') => u32::MAX,
        _ => 1,
    };
    argument.try_read::<f64>().map_or(beyond, |number| number.ceil() as u32)
}

fn tools(
    upstream: &str,
    settings: &BTreeMap<String, config::Tool>,
    before: Option<&Upstream>,
) -> HashMap<String, Tool> {
    let each = settings.iter().map(|(name, tool)| {
        let before = before.and_then(|before| before.tools.get(name));
        let before = before.map(|before| &before.section);
        let names = ["tool", upstream, name];
        let section = Section::build(&names, &tool.limits, tool.in_flight, before);
        (name.clone(), Tool { cost: tool.cost.clone(), section })
    });
    each.collect()
}

#[cfg(test)]
mod tests;
