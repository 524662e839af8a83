//! What views are made of: an upstream's part, who it is shown to, and where a name leads.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    call::{Caller, ListKind, ObjectKind},
    config::Filter,
    mcp::mirror::Mirrors,
    policy::{Judge, Object},
    upstream::Upstream,
};

use super::{
    filter,
    listing::{Item, Listing},
};

/// One upstream's part in a view.
#[derive(Debug, Clone)]
pub struct Part {
    pub upstream: Arc<Upstream>,
    /// None while nothing is known of it.
    pub listing: Option<Arc<Listing>>,
    pub filters: Arc<Filters>,
}

/// What an upstream's own section says is shown of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filters {
    pub tools: Filter,
    pub prompts: Filter,
    pub resources: Filter,
    /// Patterns of its own names, by tag.
    pub tags: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// The tags of a thing of this name.
    fn tags_of(&self, own: &str) -> Vec<String> {
        let has =
            |patterns: &[String]| patterns.iter().any(|pattern| filter::matches(pattern, own));
        self.tags.iter().filter(|(_, patterns)| has(patterns)).map(|(tag, _)| tag.clone()).collect()
    }
}

/// Who a view is for.
#[derive(Debug, Clone, Copy)]
pub struct For<'a> {
    pub judge: &'a Judge,
    pub caller: &'a Caller,
}

/// What one name on a route stands for.
#[derive(Debug, Clone)]
pub struct Target {
    pub upstream: Arc<Upstream>,
    /// The upstream's own name for it.
    pub own: String,
    pub mirrors: Mirrors,
    /// A tool that can be called as a task only (2025-11-25).
    pub task: bool,
    /// What policies judge; none for a task, which is its caller's own.
    pub object: Option<Object>,
    /// Of the tool as its server lists it: another one means another tool. 0 for anything else.
    pub definition: u64,
}

impl Part {
    pub fn object(&self, kind: ListKind, item: &Item) -> Object {
        let (kind, tags) = (ObjectKind::of(kind), self.filters.tags_of(&item.key));
        let annotations = Object::annotations_of(&item.raw);
        Object::new(kind, self.upstream.name(), &item.key, annotations, tags)
    }
}

impl For<'_> {
    /// Whether there is anything of an upstream that the caller may see.
    pub fn sees_any(self, part: &Part, asked: bool) -> bool {
        part.listing.iter().any(|listing| {
            ListKind::ALL.into_iter().any(|kind| {
                let mut items = listing.items(kind).iter().chain(extra(listing, kind, asked));
                items.any(|item| self.judge.sees(self.caller, &part.object(kind, item)))
            })
        })
    }
}

/// What of a list is for clients that can be asked.
pub fn extra(listing: &Listing, kind: ListKind, asked: bool) -> &[Item] {
    if asked && kind == ListKind::Tools { &listing.asked_tools } else { &[] }
}

/// A resource that is on no list, if its upstream's own section lets it pass.
pub fn passing(upstream: &Arc<Upstream>, filters: &Filters, own: &str) -> Option<Arc<Target>> {
    filter::passes(&filters.resources, own).then(|| {
        let tags = filters.tags_of(own);
        let object = Object::new(ObjectKind::Resource, upstream.name(), own, None, tags);
        let (upstream, own, mirrors) = (Arc::clone(upstream), own.to_owned(), Mirrors::default());
        Arc::new(Target {
            upstream,
            own,
            mirrors,
            task: false,
            object: Some(object),
            definition: 0,
        })
    })
}
