//! Looks requests up: serves, refreshes, joins or leads, as the configuration says.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    call::UpstreamName,
    config::{self, Config, Keep, Resources},
    mcp::{method::Method, raw::Raw, version::Era},
    telemetry::{Counter, Counters},
};

use super::{
    join::{self, FlightLeader, JoinOutcome},
    key::{self, CacheQuery},
    result::{CacheSubject, CachedResult, Hints, SubjectKind, is_whole},
    store::Store,
};

/// The results of a gate, and what its configuration says of them. Built anew for the next
/// configuration, it takes over all that is still right.
#[derive(Debug)]
pub struct Cache<F> {
    store: Arc<Store<F>>,
    upstreams: HashMap<UpstreamName, Upstream>,
    /// Generation of the upstream that was opened last.
    generation: u64,
    pub(super) counters: Arc<Counters>,
}

#[derive(Debug)]
struct Upstream {
    /// The number of the server, counted up with each other one: what is kept of it is not found
    /// any more.
    generation: u64,
    tools: HashMap<String, Tool>,
}

#[derive(Debug)]
pub(super) struct Tool {
    keep: Option<Keep>,
    /// Tools of the same upstream, of which nothing is good any more after a call.
    invalidates: Vec<String>,
    /// Whether a log line has said already that nothing is kept of it, although the configuration
    /// asks for it.
    complained: AtomicBool,
}

/// The time for which a result is good.
#[derive(Debug, Clone, Copy)]
struct Freshness {
    ttl: Duration,
    stale_while_revalidate: Duration,
    stale_if_error: Duration,
}

/// Answer to a lookup.
#[derive(Debug)]
pub enum Lookup<F: Clone> {
    /// The request is none for the cache.
    Bypass,
    Hit(CachedResult),
    /// A result that is served while it is asked for anew, by whoever has the lead.
    Stale(CachedResult, Option<FlightLeader<F>>),
    /// The upstream is to be asked, or waited for; the result is served if that fails.
    Join(JoinOutcome<F>, Option<CachedResult>),
}

impl<F: Clone> Cache<F> {
    /// An empty one.
    pub fn new(counters: Arc<Counters>) -> Self {
        let shelf = Arc::new(Store::new(&config::Cache::default(), &counters));
        Self { store: shelf, upstreams: HashMap::new(), generation: 0, counters }
    }

    /// Builds the cache of the configuration that follows. `is_same` says of an upstream whether it
    /// is the server that it was before: of any other, all is forgotten.
    pub fn next(&self, config: &Config, is_same: impl Fn(&str) -> bool) -> Self {
        let same = self.store.settings() == &config.cache;
        let shelf = if same { Arc::clone(&self.store) } else { self.store.moved_to(&config.cache) };
        let mut generation = self.generation;
        let upstreams = config.upstreams.iter().map(|section| {
            let before = self.upstreams.get(&section.name).filter(|_| is_same(&section.name));
            let own = before.map_or_else(
                || {
                    generation += 1;
                    generation
                },
                |before| before.generation,
            );
            let tools = section.tool_settings.iter().map(|(name, tool)| {
                let keep = tool.cache.clone();
                let invalidates = tool.invalidates.clone();
                (name.clone(), Tool { keep, invalidates, complained: AtomicBool::new(false) })
            });
            (section.name.clone(), Upstream { generation: own, tools: tools.collect() })
        });
        let upstreams: HashMap<_, _> = upstreams.collect();
        let stays = |name: &str| {
            let both = self.upstreams.get(name).zip(upstreams.get(name));
            both.is_some_and(|(before, now)| before.generation == now.generation)
        };
        if self.upstreams.keys().any(|name| !stays(name)) {
            shelf.forget(|subject| !stays(&subject.upstream));
        }
        // Nobody hears of newer results while none is kept: what is old must not come back later.
        if config.cache.resources == Resources::Off {
            shelf.forget(|subject| subject.kind == SubjectKind::Resource);
        }
        Self { store: shelf, upstreams, generation, counters: Arc::clone(&self.counters) }
    }

    /// Whether results of this kind may be kept at all: cheap, and asked of every call.
    #[allow(clippy::wildcard_enum_match_arm, reason = "of nothing else are results kept")]
    pub fn may_keep(&self, method: Method, upstream: &UpstreamName, name: &str) -> bool {
        match method {
            Method::ResourcesRead => self.store.settings().resources != Resources::Off,
            Method::ToolsCall => self.tool(upstream, name).is_some_and(|tool| tool.keep.is_some()),
            _ => false,
        }
    }

    /// Looks a request up: a result to serve, one to refresh, or a flight to lead or to wait for.
    pub fn lookup(&self, question: CacheQuery<'_>) -> Lookup<F> {
        let Some(upstream) = self.upstreams.get(question.upstream) else { return Lookup::Bypass };
        let is_tool = question.method == Method::ToolsCall;
        let tool = upstream.tools.get(question.name).filter(|_| is_tool);
        let keep = tool.and_then(|tool| tool.keep.as_ref());
        if is_tool && !keep.is_some_and(|keep| self.allows(keep, tool, &question)) {
            return Lookup::Bypass;
        }
        let only = keep.and_then(|keep| keep.keys.as_deref());
        let bytes_max = self.store.settings().request_bytes_max;
        let found = key::keys(question, only, upstream.generation, bytes_max);
        let Some(mut keys) = found else { return Lookup::Bypass };
        let is_public = keep.is_some_and(|keep| keep.public);
        if is_public {
            // All callers share one flight.
            keys.own = keys.public;
        }
        let kind = if is_tool { SubjectKind::Tool } else { SubjectKind::Resource };
        let upstream = question.upstream.clone();
        let name = question.name.into();
        let subject = Arc::new(CacheSubject { kind, upstream, name });
        let terms = |kept: &CachedResult| Freshness::of(keep, kept);
        let shared = !is_tool && self.shares();
        let found = self.find(keys, shared);
        if let Some(kept) = found.as_ref().filter(|kept| terms(kept).is_fresh(kept)) {
            self.counters.add(Counter::CacheHits);
            return Lookup::Hit(kept.clone());
        }
        if let Some(kept) =
            found.as_ref().filter(|kept| terms(kept).is_usable_while_revalidating(kept))
        {
            self.counters.add(Counter::CacheStale);
            return Lookup::Stale(kept.clone(), self.lead_refresh(keys, &subject));
        }
        let fallback = found.filter(|kept| terms(kept).is_usable_on_error(kept));
        let join = join::join(&self.store, keys, &subject);
        if let JoinOutcome::Leader(_) = &join
            && let Some(kept) = self.find(keys, shared)
            && terms(&kept).is_fresh(&kept)
        {
            // The result came between the look and the lead.
            self.counters.add(Counter::CacheHits);
            return Lookup::Hit(kept);
        }
        self.counters.add(match &join {
            JoinOutcome::Leader(_) => Counter::CacheMisses,
            JoinOutcome::Follower(_) => Counter::CacheJoined,
        });
        Lookup::Join(join, fallback)
    }

    /// A result as it is kept, where it may be: no error, no task, no question, nothing that is not
    /// whole. `era` is that spoken to the upstream.
    pub fn cacheable(
        &self,
        subject: &CacheSubject,
        result: &Raw,
        era: Era,
    ) -> Option<CachedResult> {
        if !is_whole(result) {
            return None;
        }
        let kept = |hint, public, lasts| CachedResult {
            result: result.clone(),
            era,
            received_at: Instant::now(),
            ttl_hint: hint,
            public,
            retention: lasts,
        };
        if subject.kind == SubjectKind::Resource {
            let hints = Hints::of(result).filter(|_| era == Era::Modern)?;
            let ttl = Duration::from_millis(hints.ttl_ms).min(self.store.settings().hint_max);
            let public = hints.is_public && self.shares();
            return (!ttl.is_zero()).then(|| kept(Some(ttl), public, ttl));
        }
        let keep = self.tool(&subject.upstream, &subject.name)?.keep.as_ref()?;
        let lasts = keep.ttl + keep.stale.max(keep.on_error);
        Some(kept(None, keep.public, lasts))
    }

    /// Finds the tools whose results a call of this tool makes outdated.
    pub fn invalidated_by(&self, upstream: &UpstreamName, tool: &str) -> Vec<CacheSubject> {
        let names = self.tool(upstream, tool).map(|tool| &tool.invalidates[..]).unwrap_or_default();
        let subject = |name: &String| CacheSubject {
            kind: SubjectKind::Tool,
            upstream: upstream.clone(),
            name: name.as_str().into(),
        };
        names.iter().map(subject).collect()
    }

    /// Takes away what is kept of one tool or resource; how many results there were.
    pub fn forget_one(&self, subject: &CacheSubject) -> usize {
        self.store.forget_one(subject)
    }

    /// Takes away what is kept of all of these; how many results there were.
    pub fn forget(&self, is_of: impl Fn(&CacheSubject) -> bool) -> usize {
        self.store.forget(is_of)
    }

    /// How many results there are, and how many bytes they take.
    pub fn size(&self) -> (u64, u64) {
        self.store.size()
    }

    fn tool(&self, upstream: &UpstreamName, name: &str) -> Option<&Tool> {
        self.upstreams.get(upstream)?.tools.get(name)
    }

    /// Whether results that a server calls public are shared among callers.
    fn shares(&self) -> bool {
        self.store.settings().resources == Resources::Shared
    }

    fn find(&self, keys: key::CacheKeys, shared: bool) -> Option<CachedResult> {
        let public = || self.store.get(&keys.public).filter(|_| shared && keys.own != keys.public);
        let mut kept = self.store.get(&keys.own).or_else(public)?;
        // A bound that was made shorter holds for what was kept before, too.
        let hint_max = self.store.settings().hint_max;
        kept.ttl_hint = kept.ttl_hint.map(|hint| hint.min(hint_max));
        Some(kept)
    }

    /// A tool that may change something is answered from memory where that is said outright.
    fn allows(&self, keep: &Keep, tool: Option<&Tool>, question: &CacheQuery<'_>) -> bool {
        let lets = keep.even_if_writing || question.read_only;
        if !lets {
            self.counters.add(Counter::CacheRefusedWriting);
            if tool.is_some_and(|tool| !tool.complained.swap(true, Ordering::Relaxed)) {
                let upstream = question.upstream;
                let tool = question.name;
                tracing::warn!(
                    upstream = upstream.as_str(),
                    tool,
                    "nothing is kept of it: it does not say that it only reads (`readOnlyHint`); \
                     `even_if_writing = true` in its `cache` keeps its results all the same"
                );
            }
        }
        lets
    }

    fn lead_refresh(
        &self,
        keys: key::CacheKeys,
        subject: &Arc<CacheSubject>,
    ) -> Option<FlightLeader<F>> {
        let place = Arc::clone(self.store.refreshes()).try_acquire_owned().ok()?;
        match join::join(&self.store, keys, subject) {
            JoinOutcome::Leader(lead) => Some(lead.with_refresh_permit(place)),
            JoinOutcome::Follower(_) => None,
        }
    }
}

impl Freshness {
    fn of(keep: Option<&Keep>, kept: &CachedResult) -> Self {
        match (keep, kept.ttl_hint) {
            (Some(keep), None) => Self {
                ttl: keep.ttl,
                stale_while_revalidate: keep.stale,
                stale_if_error: keep.on_error,
            },
            (_, hint) => Self {
                ttl: hint.unwrap_or_default(),
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
            },
        }
    }

    fn is_fresh(self, kept: &CachedResult) -> bool {
        kept.received_at.elapsed() < self.ttl
    }

    fn is_usable_while_revalidating(self, kept: &CachedResult) -> bool {
        kept.received_at.elapsed() < self.ttl + self.stale_while_revalidate
    }

    fn is_usable_on_error(self, kept: &CachedResult) -> bool {
        kept.received_at.elapsed() < self.ttl + self.stale_if_error
    }
}
