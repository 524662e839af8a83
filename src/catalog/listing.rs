//! What one upstream offers: its four lists over all pages, its capabilities, its words about
//! itself.

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{
    call::ListKind,
    mcp::{
        error::METHOD_NOT_FOUND,
        message::Body,
        method::Method,
        mirror::Mirrors,
        raw::{Raw, string_of},
        splice,
        version::{Era, Version},
    },
    telemetry::{Counter, Counters},
    upstream::{Asking, Peer, SendError, Upstream},
};

/// Pages of one list that are read at most; a server that never stops paging is stopped here.
const PAGES_MAX: usize = 1_000;

/// One entry of a list, as the upstream wrote it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Item {
    /// Its name, URI or template.
    pub key: String,
    pub raw: Raw,
    /// Arguments mirrored in headers.
    #[serde(skip)]
    pub mirrors: Mirrors,
    /// As the upstream wrote it, where clients are shown something else.
    #[serde(skip)]
    said: Option<Raw>,
}

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
    /// The smallest `ttlMs` of its lists; 0 where it gave none.
    pub ttl_ms: u64,
    /// All of its lists said `cacheScope: public`.
    pub public: bool,
}

/// Why a list could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("`{method}` was refused: {error:?}")]
    Refused { method: &'static str, error: Raw },
    #[error("the answer to `{0}` is no list")]
    Shape(&'static str),
}

/// Bounds and counters for reading lists.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    pub items_max: usize,
    /// Over HTTP a tool whose `x-mcp-header` is wrong must not be offered.
    pub strict_mirrors: bool,
    pub counters: &'a Counters,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    next_cursor: Option<String>,
    ttl_ms: Option<u64>,
    cache_scope: Option<String>,
}

#[derive(Deserialize)]
struct ErrorCode {
    code: i64,
}

impl Listing {
    /// Reads all lists that the upstream says it has.
    pub async fn read(
        upstream: &Upstream,
        peer: &Peer,
        bounds: Bounds<'_>,
    ) -> Result<Self, ListError> {
        let mut listing = Self::of(peer);
        for kind in ListKind::ALL {
            if splice::member(&peer.capabilities, kind.capability()).is_some() {
                listing.read_list(&Via::Shared(upstream), kind, bounds).await?;
            }
        }
        Ok(listing)
    }

    /// Reads what is listed only for clients that can be asked.
    pub async fn read_asked(
        &mut self,
        upstream: &Upstream,
        bounds: Bounds<'_>,
    ) -> Result<(), ListError> {
        if splice::member(&self.capabilities, "tools").is_none() {
            return Ok(());
        }
        let Some(asking) = Box::pin(upstream.asking()).await? else { return Ok(()) };
        let mut all = Self { tools: Vec::new(), ..self.clone() };
        let read = all.read_list(&Via::Asking(&asking), ListKind::Tools, bounds).await;
        asking.close().await;
        read?;
        all.tools.retain(|tool| self.tools.iter().all(|known| known.key != tool.key));
        self.asked_tools = all.tools;
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

    /// The listing with every entry as `show` has it; what it has none for is left out.
    pub fn shown(&self, show: impl Fn(ListKind, &Item) -> Option<Raw>) -> Self {
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

    /// Reads the annotations of its tools again, after it came from disk.
    pub fn restore(&mut self) {
        for tool in self.tools.iter_mut().chain(&mut self.asked_tools) {
            tool.mirrors = mirrors(&tool.raw).unwrap_or_default();
        }
    }

    fn of(peer: &Peer) -> Self {
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
            ttl_ms: u64::MAX,
            public: true,
        }
    }

    async fn read_list(
        &mut self,
        via: &Via<'_>,
        kind: ListKind,
        bounds: Bounds<'_>,
    ) -> Result<(), ListError> {
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let params = match &cursor {
                Some(cursor) => Raw::encode(&serde_json::json!({ "cursor": cursor })),
                None => Raw::object(),
            };
            let result = match via.ask(kind.method(), &params).await? {
                Body::Result(result) => result,
                // Said to have the capability, but not this list: templates, often.
                Body::Error(error) if is_unknown_method(&error) => return Ok(()),
                Body::Error(error) => {
                    return Err(ListError::Refused { method: kind.method().name(), error });
                }
            };
            let page = self.add(kind, &result, bounds)?;
            self.ttl_ms = self.ttl_ms.min(page.ttl_ms.unwrap_or(0));
            self.public &= page.cache_scope.as_deref() == Some("public");
            let full = bounds.items_max <= self.items(kind).len();
            if full || page.next_cursor.is_none() || page.next_cursor == cursor {
                return Ok(());
            }
            cursor = page.next_cursor;
        }
        Ok(())
    }

    fn add(&mut self, kind: ListKind, result: &Raw, bounds: Bounds<'_>) -> Result<Page, ListError> {
        let shape = || ListError::Shape(kind.method().name());
        let page: Page = result.try_read().ok_or_else(shape)?;
        let list = splice::member(result, kind.member()).ok_or_else(shape)?;
        let entries: Vec<&RawValue> = list.try_read().ok_or_else(shape)?;
        let items = match kind {
            ListKind::Tools => &mut self.tools,
            ListKind::Prompts => &mut self.prompts,
            ListKind::Resources => &mut self.resources,
            ListKind::Templates => &mut self.templates,
        };
        for entry in entries {
            // Its own copy: a part would keep the whole page in memory.
            let raw = Raw::trusted(entry.get().to_owned());
            match Item::of(kind, raw, bounds.strict_mirrors)
                .filter(|_| items.len() < bounds.items_max)
            {
                Some(item) => items.push(item),
                None => bounds.counters.add(Counter::ListItemsDropped),
            }
        }
        Ok(page)
    }
}

/// The connection that a list is read on.
enum Via<'a> {
    Shared(&'a Upstream),
    Asking(&'a Asking),
}

impl Via<'_> {
    async fn ask(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        match self {
            Self::Shared(upstream) => upstream.ask(method, params).await,
            Self::Asking(asking) => asking.ask(method, params).await,
        }
    }
}

impl Item {
    /// As the upstream wrote it.
    pub fn said(&self) -> &Raw {
        self.said.as_ref().unwrap_or(&self.raw)
    }

    fn shown(&self, raw: Raw) -> Self {
        let said = (raw != self.raw).then(|| self.said().clone());
        Self { raw, said: said.or_else(|| self.said.clone()), ..self.clone() }
    }

    /// None for what is no entry, and for a tool that must not be offered.
    fn of(kind: ListKind, raw: Raw, strict_mirrors: bool) -> Option<Self> {
        if !raw.is_object() {
            return None;
        }
        let key = splice::member(&raw, kind.key())?;
        let key = string_of(key.try_read()?)?.into_owned();
        let found = if kind == ListKind::Tools { mirrors(&raw) } else { Ok(Mirrors::default()) };
        if let (Err(why), true) = (&found, strict_mirrors) {
            tracing::warn!(tool = key, %why, "left out");
            return None;
        }
        Some(Self { key, raw, mirrors: found.unwrap_or_default(), said: None })
    }
}

fn mirrors(tool: &Raw) -> Result<Mirrors, String> {
    // Most schemas have none, and need not be read.
    if memchr::memmem::find(tool.bytes(), b"x-mcp-header").is_none() {
        return Ok(Mirrors::default());
    }
    let schema = splice::member(tool, "inputSchema").and_then(|schema| schema.try_read::<Value>());
    schema.map_or_else(|| Ok(Mirrors::default()), |schema| Mirrors::of(&schema))
}

fn is_unknown_method(error: &Raw) -> bool {
    error.try_read::<ErrorCode>().is_some_and(|error| error.code == METHOD_NOT_FOUND)
}
