//! A result as it is kept, and the tool or resource that it is of.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    call::UpstreamName,
    mcp::{raw::Raw, splice, version::Era, word::Word},
};

static RESULT_TYPE: Word = Word::new("resultType");
static IS_ERROR: Word = Word::new("isError");
/// Members of a result that is not the end of its call.
static GOES_ON: [Word; 4] =
    [Word::new("inputRequests"), Word::new("requestState"), Word::new("task"), Word::new("taskId")];

/// The tool or resource that results are of, which are taken away together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheSubject {
    pub kind: SubjectKind,
    pub upstream: UpstreamName,
    /// The upstream's own name for the tool, or the resource's URI.
    pub name: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubjectKind {
    Tool,
    Resource,
}

/// A result, as its server wrote it.
#[derive(Debug, Clone)]
pub struct CachedResult {
    pub result: Raw,
    /// The era spoken to the upstream.
    pub era: Era,
    /// When it came.
    pub received_at: Instant,
    /// The time for which it is good, as its server says; none where the configuration does.
    pub ttl_hint: Option<Duration>,
    /// Whether all callers share it.
    pub public: bool,
    /// After this long it is of no use any more.
    pub retention: Duration,
}

impl CachedResult {
    /// Returns it as it is served to who asked first: in the server's own words, unless it is kept
    /// for less than these say.
    pub fn first_served(&self) -> Option<Raw> {
        let hint = self.ttl_hint?.as_millis();
        let said = u128::from(Hints::of(&self.result)?.ttl_ms);
        let hint = hint.to_string();
        (hint != said.to_string())
            .then(|| splice::edit(&self.result, &[("ttlMs", Some(hint.as_bytes()))]))
    }

    /// Returns it as it is served now: what it says of how long it is good is what is left of that.
    pub fn served(&self) -> Raw {
        let Some(hint) = self.ttl_hint else { return self.result.clone() };
        let left = hint.saturating_sub(self.received_at.elapsed()).as_millis().to_string();
        splice::edit(&self.result, &[("ttlMs", Some(left.as_bytes()))])
    }
}

/// The server's own words on how long a result may be kept (2026-07-28, caching).
pub(super) struct Hints {
    pub(super) ttl_ms: u64,
    pub(super) is_public: bool,
}

impl Hints {
    pub(super) fn of(result: &Raw) -> Option<Self> {
        let ttl_ms = splice::member(result, "ttlMs")?.try_read()?;
        let scope = splice::member(result, "cacheScope");
        Some(Self { ttl_ms, is_public: scope.is_some_and(|scope| scope.as_str() == "\"public\"") })
    }
}

/// Whether a result is the end of a call that went well, and nothing but that.
pub(super) fn is_whole(result: &Raw) -> bool {
    let has = |key| splice::rare_member(result, key);
    let complete = |kind: Raw| kind.as_str() == "\"complete\"";
    result.is_object()
        && has(&RESULT_TYPE).is_none_or(complete)
        && has(&IS_ERROR).is_none_or(|error| error.as_str() == "false")
        && GOES_ON.iter().all(|key| has(key).is_none())
}
