//! What was answered already: results that are served again for as long as they are good.
//!
//! [`Cache::look`] says what to do about a question: serve a result, ask for it on behalf of all
//! who wait (`flight`), wait, or pass it by. `key` is all that could make an answer another one,
//! and `shelf` the place where results are kept, within so many bytes. Kept is what the server
//! wrote, before it is put in a client's words.
//!
//! `F` is how an upstream fails: those who wait for one flight share its failure, whose type stands
//! further down the way. A second level that replicas share would stand behind `Shelf::get`,
//! `Shelf::put` and `Shelf::forget`.

mod flight;
mod key;
mod shelf;
#[cfg(test)]
mod tests;

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
    config::{self, Config, Keep, Resources},
    mcp::{method::Method, raw::Raw, splice, version::Era},
    telemetry::{Counter, Counters},
};

use self::shelf::Shelf;
pub use self::{
    flight::{Join, Landing, Lead, Wait},
    key::Question,
    shelf::{Kept, Kind, Subject},
};

/// The results of a gate, and what its configuration says of them. Built anew for the next
/// configuration, it takes over all that is still right.
#[derive(Debug)]
pub struct Cache<F> {
    shelf: Arc<Shelf<F>>,
    upstreams: HashMap<String, Upstream>,
    /// Of the upstream that was opened last.
    generation: u64,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Upstream {
    /// Another one means another server: what is kept of it is not found any more.
    generation: u64,
    tools: HashMap<String, Tool>,
}

#[derive(Debug)]
struct Tool {
    keep: Option<Keep>,
    /// Tools of the same upstream, of which nothing is good any more after a call.
    invalidates: Vec<String>,
    /// It is said that nothing is kept of it, although the configuration wants to.
    complained: AtomicBool,
}

/// For how long a result is good.
#[derive(Debug, Clone, Copy)]
struct Terms {
    ttl: Duration,
    stale: Duration,
    on_error: Duration,
}

/// What to do about a question.
#[derive(Debug)]
pub enum Look<F: Clone> {
    /// It is none for the cache.
    Pass,
    Hit(Kept),
    /// A result that is served while it is asked for anew, by whoever has the lead.
    Stale(Kept, Option<Lead<F>>),
    /// To be asked, or waited for; the result is served if that fails.
    Join(Join<F>, Option<Kept>),
}

impl<F: Clone> Cache<F> {
    /// An empty one.
    pub fn new(counters: Arc<Counters>) -> Self {
        let shelf = Arc::new(Shelf::new(&config::Cache::default(), &counters));
        Self { shelf, upstreams: HashMap::new(), generation: 0, counters }
    }

    /// That of the configuration that follows. `is_same` says of an upstream whether it is the
    /// server that it was before: of any other, all is forgotten.
    pub fn next(&self, config: &Config, is_same: impl Fn(&str) -> bool) -> Self {
        let same = self.shelf.settings() == &config.cache;
        let shelf = if same { Arc::clone(&self.shelf) } else { self.shelf.moved(&config.cache) };
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
                let (keep, invalidates) = (tool.cache.clone(), tool.invalidates.clone());
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
        Self { shelf, upstreams, generation, counters: Arc::clone(&self.counters) }
    }

    /// Whether results of this kind may be kept at all: cheap, and asked of every call.
    #[allow(clippy::wildcard_enum_match_arm, reason = "of nothing else are results kept")]
    pub fn may_keep(&self, method: Method, upstream: &str, name: &str) -> bool {
        match method {
            Method::ResourcesRead => self.shelf.settings().resources != Resources::Off,
            Method::ToolsCall => self.tool(upstream, name).is_some_and(|tool| tool.keep.is_some()),
            _ => false,
        }
    }

    /// What to do about a question.
    pub fn look(&self, question: Question<'_>) -> Look<F> {
        let Some(upstream) = self.upstreams.get(question.upstream) else { return Look::Pass };
        let is_tool = question.method == Method::ToolsCall;
        let tool = upstream.tools.get(question.name).filter(|_| is_tool);
        let keep = tool.and_then(|tool| tool.keep.as_ref());
        if is_tool && !keep.is_some_and(|keep| self.lets(keep, tool, &question)) {
            return Look::Pass;
        }
        let only = keep.and_then(|keep| keep.keys.as_deref());
        let bytes_max = self.shelf.settings().request_bytes_max;
        let found = key::keys(question, only, upstream.generation, bytes_max);
        let Some(mut keys) = found else { return Look::Pass };
        let is_public = keep.is_some_and(|keep| keep.public);
        if is_public {
            // One flight for everybody.
            keys.own = keys.public;
        }
        let kind = if is_tool { Kind::Tool } else { Kind::Resource };
        let (upstream, name) = (question.upstream.into(), question.name.into());
        let subject = Arc::new(Subject { kind, upstream, name });
        let terms = |kept: &Kept| Terms::of(keep, kept);
        let shared = !is_tool && self.shares();
        let found = self.found(keys, shared);
        if let Some(kept) = found.as_ref().filter(|kept| terms(kept).is_fresh(kept)) {
            self.counters.add(Counter::CacheHits);
            return Look::Hit(kept.clone());
        }
        if let Some(kept) = found.as_ref().filter(|kept| terms(kept).may_be_refreshed(kept)) {
            self.counters.add(Counter::CacheStale);
            return Look::Stale(kept.clone(), self.refreshed(keys, &subject));
        }
        let fallback = found.filter(|kept| terms(kept).is_for_errors(kept));
        let join = flight::join(&self.shelf, keys, &subject);
        if let Join::Lead(_) = &join
            && let Some(kept) = self.found(keys, shared)
            && terms(&kept).is_fresh(&kept)
        {
            // It came between the look and the lead.
            self.counters.add(Counter::CacheHits);
            return Look::Hit(kept);
        }
        self.counters.add(match &join {
            Join::Lead(_) => Counter::CacheMisses,
            Join::Wait(_) => Counter::CacheJoined,
        });
        Look::Join(join, fallback)
    }

    /// A result as it is kept, where it may be: no error, no task, no question, nothing that is not
    /// whole. `era` is that spoken to the upstream.
    pub fn kept(&self, subject: &Subject, result: &Raw, era: Era) -> Option<Kept> {
        if !is_whole(result) {
            return None;
        }
        let kept = |hint, public, lasts| Kept {
            result: result.clone(),
            era,
            at: Instant::now(),
            hint,
            public,
            lasts,
        };
        if subject.kind == Kind::Resource {
            let hints = Hints::of(result).filter(|_| era == Era::Modern)?;
            let ttl = Duration::from_millis(hints.ttl_ms).min(self.shelf.settings().hint_max);
            let public = hints.is_public && self.shares();
            return (!ttl.is_zero()).then(|| kept(Some(ttl), public, ttl));
        }
        let keep = self.tool(&subject.upstream, &subject.name)?.keep.as_ref()?;
        let lasts = keep.ttl + keep.stale.max(keep.on_error);
        Some(kept(None, keep.public, lasts))
    }

    /// What a call of this tool makes outdated.
    pub fn invalidated_by(&self, upstream: &str, tool: &str) -> Vec<Subject> {
        let names = self.tool(upstream, tool).map(|tool| &tool.invalidates[..]).unwrap_or_default();
        let subject = |name: &String| Subject {
            kind: Kind::Tool,
            upstream: upstream.into(),
            name: name.as_str().into(),
        };
        names.iter().map(subject).collect()
    }

    /// Takes away what is kept of one tool or resource; how many results there were.
    pub fn forget_one(&self, subject: &Subject) -> usize {
        self.shelf.forget_one(subject)
    }

    /// Takes away what is kept of all of these; how many results there were.
    pub fn forget(&self, is_of: impl Fn(&Subject) -> bool) -> usize {
        self.shelf.forget(is_of)
    }

    /// How many results there are, and how many bytes they take.
    pub fn size(&self) -> (u64, u64) {
        self.shelf.size()
    }

    fn tool(&self, upstream: &str, name: &str) -> Option<&Tool> {
        self.upstreams.get(upstream)?.tools.get(name)
    }

    /// What a server calls public is shared among callers.
    fn shares(&self) -> bool {
        self.shelf.settings().resources == Resources::Shared
    }

    fn found(&self, keys: key::Keys, shared: bool) -> Option<Kept> {
        let public = || self.shelf.get(&keys.public).filter(|_| shared && keys.own != keys.public);
        self.shelf.get(&keys.own).or_else(public)
    }

    /// A tool that may change something is answered from memory where that is said outright.
    fn lets(&self, keep: &Keep, tool: Option<&Tool>, question: &Question<'_>) -> bool {
        let lets = keep.even_if_writing || question.read_only;
        if !lets {
            self.counters.add(Counter::CacheRefusedWriting);
            if tool.is_some_and(|tool| !tool.complained.swap(true, Ordering::Relaxed)) {
                let (upstream, tool) = (question.upstream, question.name);
                tracing::warn!(
                    upstream,
                    tool,
                    "nothing is kept of it: it does not say that it only reads (`readOnlyHint`); \
                     `even_if_writing = true` in its `cache` keeps its results all the same"
                );
            }
        }
        lets
    }

    fn refreshed(&self, keys: key::Keys, subject: &Arc<Subject>) -> Option<Lead<F>> {
        let place = Arc::clone(self.shelf.refreshes()).try_acquire_owned().ok()?;
        match flight::join(&self.shelf, keys, subject) {
            Join::Lead(lead) => Some(lead.holding(place)),
            Join::Wait(_) => None,
        }
    }
}

impl Terms {
    fn of(keep: Option<&Keep>, kept: &Kept) -> Self {
        match (keep, kept.hint) {
            (Some(keep), None) => {
                Self { ttl: keep.ttl, stale: keep.stale, on_error: keep.on_error }
            }
            (_, hint) => Self {
                ttl: hint.unwrap_or_default(),
                stale: Duration::ZERO,
                on_error: Duration::ZERO,
            },
        }
    }

    fn is_fresh(self, kept: &Kept) -> bool {
        kept.at.elapsed() < self.ttl
    }

    fn may_be_refreshed(self, kept: &Kept) -> bool {
        kept.at.elapsed() < self.ttl + self.stale
    }

    fn is_for_errors(self, kept: &Kept) -> bool {
        kept.at.elapsed() < self.ttl + self.on_error
    }
}

impl Kept {
    /// As it is served now: what it says of how long it is good is what is left of that.
    pub fn served(&self) -> Raw {
        let Some(hint) = self.hint else { return self.result.clone() };
        let left = hint.saturating_sub(self.at.elapsed()).as_millis().to_string();
        splice::edit(&self.result, &[("ttlMs", Some(left.as_bytes()))])
    }
}

/// What a server says of a result (2026-07-28, caching).
struct Hints {
    ttl_ms: u64,
    is_public: bool,
}

impl Hints {
    fn of(result: &Raw) -> Option<Self> {
        let ttl_ms = splice::member(result, "ttlMs")?.try_read()?;
        let scope = splice::member(result, "cacheScope");
        Some(Self { ttl_ms, is_public: scope.is_some_and(|scope| scope.as_str() == "\"public\"") })
    }
}

/// Whether a result is the end of a call that went well, and nothing but that.
fn is_whole(result: &Raw) -> bool {
    let has = |key| splice::rare_member(result, key);
    let complete = |kind: Raw| kind.as_str() == "\"complete\"";
    result.is_object()
        && has("resultType").is_none_or(complete)
        && has("isError").is_none_or(|error| error.as_str() == "false")
        && ["inputRequests", "requestState", "task", "taskId"].iter().all(|key| has(key).is_none())
}
