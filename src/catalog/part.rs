//! Parts of which views are made: an upstream's part, who it is shown to, and where a name leads.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use crate::{
    call::{ListKind, ObjectKind, ReplicaId},
    config::Filter,
    guard::ToolSchemas,
    mcp::{mirror::Mirrors, raw::Raw, splice, uri},
    policy::{NamedResources, Object},
    telemetry::CallMetrics,
    upstream::Upstream,
};

use super::{
    filter,
    listing::{Item, Listing},
};

/// The part of one upstream in a view.
#[derive(Debug, Clone)]
pub struct Part {
    pub upstream: Arc<Upstream>,
    /// None while nothing is known of it.
    pub listing: Option<Arc<Listing>>,
    pub filters: Arc<Filters>,
}

/// Filters of an upstream's own section.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filters {
    pub tools: Filter,
    pub prompts: Filter,
    pub resources: Filter,
    /// Patterns of its own names, by tag.
    pub tags: BTreeMap<String, Vec<String>>,
    /// Silence after which a safe call is sent to another replica too.
    pub hedge: Option<Duration>,
    /// Delays before a hedge, for single tools.
    pub hedges: BTreeMap<String, Duration>,
}

impl Filters {
    /// How long a call of this tool waits for one replica.
    pub fn hedge_of(&self, own: &str) -> Option<Duration> {
        self.hedges.get(own).copied().or(self.hedge)
    }

    /// The tags of a thing of this name.
    pub(super) fn tags_of(&self, own: &str) -> Vec<String> {
        let has =
            |patterns: &[String]| patterns.iter().any(|pattern| filter::matches(pattern, own));
        self.tags.iter().filter(|(_, patterns)| has(patterns)).map(|(tag, _)| tag.clone()).collect()
    }
}

/// Thing that one name on a route stands for.
#[derive(Debug, Clone)]
pub struct Target {
    pub upstream: Arc<Upstream>,
    /// The upstream's own name for it.
    pub own: String,
    pub mirrors: Mirrors,
    /// A tool that can be called as a task only (2025-11-25).
    pub task: bool,
    /// Object that policies judge; none for a task, which is its caller's own.
    pub object: Option<Object>,
    /// Schemas that arguments and results are held to; none where it is no tool.
    pub tool: Option<Arc<ToolSchemas>>,
    /// Fingerprint of the tool as its server lists it: another one means another tool. 0 for
    /// anything else.
    pub definition: u64,
    /// Objects that must be permitted as well: the template that it is reached through, and what
    /// other spellings of its URI name.
    pub besides: Vec<Object>,
    pub found: FoundBy,
    pub hints: ToolHints,
    pub hedge: Option<Duration>,
    /// The replica that knows it, of several.
    pub replica: Option<ReplicaId>,
    /// Counts its calls; none where it is no tool.
    pub metrics: Option<Arc<CallMetrics>>,
}

/// How a name leads to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    Listed,
    /// A URI that fits a template.
    Template,
    /// A URI that can be no other upstream's.
    Guess,
    /// Found by a guess, or in another spelling than its normal form: only for callers to whom the
    /// upstream itself gave this very URI.
    Link,
}

/// Hints that a tool gives of itself (schema: `ToolAnnotations`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ToolHints {
    pub read_only: bool,
    pub idempotent: bool,
}

impl ToolHints {
    fn of(annotations: &Raw) -> Self {
        let says = |hint| {
            splice::member(annotations, hint).and_then(|said| said.try_read()).unwrap_or(false)
        };
        Self { read_only: says("readOnlyHint"), idempotent: says("idempotentHint") }
    }

    /// Whether it may be called twice in the place of once.
    pub fn is_safe(self) -> bool {
        self.read_only || self.idempotent
    }
}

impl Target {
    /// The target of an entry of a list.
    pub fn of(part: &Part, kind: ListKind, item: &Item, task: bool) -> Self {
        let annotations = Object::annotations_of(&item.raw).filter(Raw::is_object);
        Self {
            upstream: Arc::clone(&part.upstream),
            own: item.key.clone(),
            mirrors: item.mirrors.clone(),
            task,
            object: Some(part.object(kind, item)),
            definition: if kind == ListKind::Tools { definition_of(&item.raw) } else { 0 },
            tool: (kind == ListKind::Tools)
                .then(|| Arc::new(ToolSchemas::new(part.upstream.name(), item.said().clone()))),
            hints: annotations.as_ref().map(ToolHints::of).unwrap_or_default(),
            hedge: part.filters.hedge_of(&item.key),
            replica: None,
            metrics: (kind == ListKind::Tools).then(|| part.upstream.metrics_of_tool(&item.key)),
            besides: Vec::new(),
            found: FoundBy::Listed,
        }
    }

    /// A task of a server, by its own id of it.
    pub fn of_task(upstream: &Arc<Upstream>, own: &str, replica: Option<ReplicaId>) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            own: own.to_owned(),
            mirrors: Mirrors::default(),
            task: false,
            object: None,
            definition: 0,
            tool: None,
            hints: ToolHints::default(),
            hedge: None,
            replica,
            metrics: None,
            besides: Vec::new(),
            found: FoundBy::Listed,
        }
    }

    /// All that a caller must be permitted for it. What is listed as policies write it is judged as
    /// that alone.
    pub fn judged<'a>(&'a self, named: &NamedResources) -> impl Iterator<Item = &'a Object> {
        let is_named = |object: &Object| self.found == FoundBy::Listed && named.has(&object.id);
        let alone = !self.besides.is_empty() && self.object.as_ref().is_some_and(is_named);
        self.object.iter().chain(self.besides.iter().filter(move |_| !alone))
    }
}

impl Part {
    /// Whether the one shows what the other shows.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = match (&self.listing, &other.listing) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same && Arc::ptr_eq(&self.upstream, &other.upstream) && self.filters == other.filters
    }

    /// Returns what a listed resource is in normal form, where it is not listed so.
    pub fn normal_objects(&self, own: &str) -> Vec<Object> {
        let object = |form: String| {
            let tags = self.filters.tags_of(&form);
            Object::new(ObjectKind::Resource, self.upstream.name(), &form, None, tags)
        };
        uri::normal_forms(own).into_iter().map(object).collect()
    }

    pub fn object(&self, kind: ListKind, item: &Item) -> Object {
        let kind = ObjectKind::of(kind);
        let tags = self.filters.tags_of(&item.key);
        let annotations = Object::annotations_of(&item.raw);
        Object::new(kind, self.upstream.name(), &item.key, annotations, tags)
    }
}

/// Entries of a list that are for clients that can be asked.
pub fn extra(listing: &Listing, kind: ListKind, asked: bool) -> &[Item] {
    if asked && kind == ListKind::Tools { &listing.asked_tools } else { &[] }
}

/// Tells one definition of a tool from another; it need not stand against anybody.
fn definition_of(tool: &Raw) -> u64 {
    let mut hasher = DefaultHasher::new();
    tool.hash(&mut hasher);
    hasher.finish()
}
