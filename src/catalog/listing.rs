//! Holds what one upstream offers: its four lists over all pages, its capabilities, its words about
//! itself.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::{
    call::ListKind,
    mcp::{
        raw::Raw,
        splice,
        version::{Era, Version},
    },
    upstream::{Peer, Upstream},
};

use super::reading::{ListBounds, ListError, ListReading, ListRequest, Via};

pub use super::item::{CacheHints, Item};

/// Everything that an upstream lists.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Listing {
    pub version: String,
    pub capabilities: Raw,
    pub info: Option<Raw>,
    pub instructions: Option<String>,
    pub tools: Vec<Item>,
    /// Listed only for clients that can be asked in mid-call (legacy).
    #[serde(default)]
    pub asked_tools: Vec<Item>,
    pub prompts: Vec<Item>,
    pub resources: Vec<Item>,
    pub templates: Vec<Item>,
    /// Hints of each of its lists, in the order of [`ListKind::ALL`]; none where it was not read.
    #[serde(default)]
    pub hints: [Option<CacheHints>; ListKind::ALL.len()],
    /// The smallest `ttlMs` of its lists; 0 where it gave none.
    pub ttl_ms: u64,
    /// All of its lists said `cacheScope: public`.
    pub public: bool,
}

impl Listing {
    /// An upstream's listing before any of its lists is read.
    pub fn of(peer: &Peer) -> Self {
        Self {
            version: peer.version.as_str().to_owned(),
            capabilities: peer.capabilities.clone(),
            info: peer.info.clone(),
            instructions: peer.instructions.clone(),
            tools: Vec::new(),
            asked_tools: Vec::new(),
            prompts: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
            hints: [None; ListKind::ALL.len()],
            ttl_ms: u64::MAX,
            public: true,
        }
    }

    /// Keeps the same lists for an upstream that was opened anew.
    pub fn reopened(self, peer: &Peer) -> Self {
        let Self { tools, asked_tools, prompts, resources, templates, hints, .. } = self;
        let lists = Self { tools, asked_tools, prompts, ..Self::of(peer) };
        let mut again = Self { resources, templates, hints, ..lists };
        again.hint();
        again
    }

    /// Whether the upstream says that it has such a list.
    pub fn has(peer: &Peer, kind: ListKind) -> bool {
        splice::member(&peer.capabilities, kind.capability()).is_some()
    }

    /// Takes in a list that was read anew. One that failed leaves what was known; where that is
    /// nothing, what was read of it until then is better.
    pub fn take(&mut self, reading: ListReading) {
        let failed = reading.error.as_ref().is_some_and(|error| !error.is_cut());
        let items = self.items_mut(reading.kind);
        if failed && !items.is_empty() {
            return;
        }
        *items = reading.items;
        if let Some(hints) = self.hints.get_mut(reading.kind as usize) {
            *hints = reading.hints;
        }
        self.hint();
    }

    /// Keeps all lists together within so many bytes: those named first have precedence. Returns
    /// those of which something had to go.
    pub fn bound(&mut self, bytes_max: usize) -> Vec<ListKind> {
        let mut bytes = 0;
        let mut cut = Vec::new();
        let lists = ListKind::ALL.into_iter().map(|kind| (kind, false));
        for (kind, asked) in lists.chain([(ListKind::Tools, true)]) {
            let items = if asked { &mut self.asked_tools } else { self.items_mut(kind) };
            let fit = items.iter().take_while(|item| {
                bytes += item.raw.bytes().len();
                bytes <= bytes_max
            });
            let fit = fit.count();
            if fit < items.len() {
                items.truncate(fit);
                cut.push(kind);
            }
        }
        cut
    }

    /// Reads what is listed only for clients that can be asked.
    ///
    /// # Errors
    /// Fails where the upstream cannot be opened, or its list cannot be read to its end.
    pub async fn read_asked(
        &mut self,
        upstream: &Upstream,
        request: ListRequest,
    ) -> Result<(), ListError> {
        if splice::member(&self.capabilities, "tools").is_none() {
            return Ok(());
        }
        let Some(asking) = Box::pin(upstream.asking()).await? else { return Ok(()) };
        let reading = ListReading::read(Via::Asking(&asking), request).await;
        asking.close().await;
        if let Some(error) = reading.error.filter(|error| !error.is_cut()) {
            return Err(error);
        }
        let known: HashSet<&str> = self.tools.iter().map(|tool| tool.key.as_str()).collect();
        let tools = reading.items.into_iter();
        self.asked_tools = tools.filter(|tool| !known.contains(tool.key.as_str())).collect();
        Ok(())
    }

    pub fn items(&self, kind: ListKind) -> &[Item] {
        match kind {
            ListKind::Tools => &self.tools,
            ListKind::Prompts => &self.prompts,
            ListKind::Resources => &self.resources,
            ListKind::Templates => &self.templates,
        }
    }

    /// The listing with these instructions, and every entry as `show` has it; what it has none for
    /// is left out.
    pub fn shown(
        &self,
        instructions: Option<String>,
        show: impl Fn(ListKind, &Item) -> Option<Raw>,
    ) -> Self {
        let all = |kind: ListKind, items: &[Item]| {
            let each = items.iter().filter_map(|item| Some(item.shown(show(kind, item)?)));
            each.collect()
        };
        Self {
            tools: all(ListKind::Tools, &self.tools),
            asked_tools: all(ListKind::Tools, &self.asked_tools),
            prompts: all(ListKind::Prompts, &self.prompts),
            resources: all(ListKind::Resources, &self.resources),
            templates: all(ListKind::Templates, &self.templates),
            instructions,
            ..self.clone()
        }
    }

    pub fn is_legacy(&self) -> bool {
        Version::find(&self.version).is_some_and(|version| version.era() == Era::Legacy)
    }

    /// Whether a tool of it can be called as a task only (2025-11-25, tasks: tool-level
    /// negotiation).
    pub fn must_be_task(&self, tool: &Item) -> bool {
        Self::wants_task(&tool.raw) && self.is_legacy() && self.has_tasks()
    }

    /// Whether its tools can be called as tasks (2025-11-25).
    pub fn has_tasks(&self) -> bool {
        splice::at(&self.capabilities, &["tasks", "requests", "tools", "call"]).is_some()
    }

    /// Whether a tool says that it must be a task.
    pub fn wants_task(tool: &Raw) -> bool {
        // Nearly no tool says anything about it.
        memchr::memmem::find(tool.bytes(), b"taskSupport").is_some()
            && splice::at(tool, &["execution", "taskSupport"])
                .is_some_and(|support| support.as_str() == "\"required\"")
    }

    /// Holds a listing that came from disk to the bounds of now, and to what clients can read.
    pub fn restored(mut self, bounds: ListBounds) -> Self {
        let again = |kind: ListKind, items: Vec<Item>| -> Vec<Item> {
            let items = items.into_iter().take(bounds.items_max);
            let fitting = items.filter_map(|item| {
                Item::of(kind, &item.raw, bounds.entry(), false).ok().map(|(item, _)| item)
            });
            fitting.collect()
        };
        self.tools = again(ListKind::Tools, self.tools);
        self.asked_tools = again(ListKind::Tools, self.asked_tools);
        self.prompts = again(ListKind::Prompts, self.prompts);
        self.resources = again(ListKind::Resources, self.resources);
        self.templates = again(ListKind::Templates, self.templates);
        self.bound(bounds.lists_bytes_max);
        // Files of earlier versions have the hints of all lists together.
        let all = CacheHints { ttl_ms: self.ttl_ms, public: self.public };
        for kind in ListKind::ALL {
            let has = !self.items(kind).is_empty();
            if let Some(hints) = self.hints.get_mut(kind as usize).filter(|_| has) {
                hints.get_or_insert(all);
            }
        }
        self
    }

    fn items_mut(&mut self, kind: ListKind) -> &mut Vec<Item> {
        match kind {
            ListKind::Tools => &mut self.tools,
            ListKind::Prompts => &mut self.prompts,
            ListKind::Resources => &mut self.resources,
            ListKind::Templates => &mut self.templates,
        }
    }

    /// The smallest `ttlMs` of all lists, and public where all are.
    fn hint(&mut self) {
        let known = || self.hints.iter().flatten();
        let ttl_ms = known().map(|hints| hints.ttl_ms).min().unwrap_or(u64::MAX);
        (self.ttl_ms, self.public) = (ttl_ms, known().all(|hints| hints.public));
    }
}
