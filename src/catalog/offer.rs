//! Offers a route to its callers: its lists as they read them, and what is said of the servers
//! behind it.
//!
//! All offers of a route share the entries of its lists, down to their bytes: an offer to some is
//! made of the numbers of those that they see. A page is put together when it is asked for.

use std::{
    hash::BuildHasher as _,
    sync::{Arc, LazyLock, OnceLock},
};

use sha2::{Digest as _, Sha256};

use crate::{
    call::{ListKind, gateway_info},
    mcp::{
        compat,
        error::{ErrorObject, INVALID_PARAMS},
        meta::SERVER_INFO,
        raw::Raw,
        version::{Era, Version},
    },
};

use super::{part::Target, servers::Servers};

/// Keyed anew in each process: no server can make up two entries that are taken for one.
static HASHER: LazyLock<std::hash::RandomState> = LazyLock::new(std::hash::RandomState::new);

/// Lists and capabilities that callers of some grants are offered.
#[derive(Debug, Default)]
pub struct Offer {
    lists: [List; ListKind::ALL.len()],
    pub(super) servers: Servers,
    page_size: usize,
    /// Decisions that made it; nothing where it is for all.
    decisions: Decisions,
}

/// Bytes of a page that is kept ready; a larger one is made for each who asks.
const READY_BYTES_MAX: usize = 1 << 20;

/// A list, or some of its entries.
#[derive(Debug, Default)]
struct List {
    all: Arc<[OfferEntry]>,
    /// The indices of those that are in it; none: all.
    rows: Option<Box<[u32]>>,
    /// Hash of the entries as shown: the same means that nothing changed for clients.
    fingerprint: [u8; 32],
    /// Its first page as it was asked for, by version; only of the list that everybody is shown
    /// where no policy hides anything of it: each set of grants would keep a copy else.
    ready: Option<Box<FirstPages>>,
}

type FirstPages = [OnceLock<Raw>; Version::ALL.len()];

/// An entry of a list as clients see it.
#[derive(Debug)]
pub struct OfferEntry {
    text: Raw,
    /// The entry for modern clients, where that is another.
    modern: Option<Raw>,
    /// The entry for each legacy version, made when the first client of it asks.
    older: [OnceLock<Raw>; Version::ALL.len()],
    digest: [u8; 32],
    /// Whether it stands in lists, or is only there to be called.
    listed: bool,
    /// The index of the route's part that has it.
    part: usize,
    target: Arc<Target>,
    judged: u64,
}

/// Whether things are seen by callers of some grants, by all that policies can know of them.
///
/// Decisions that stay right for as long as the policies are the same, so that a list that changed
/// costs decisions about what is new on it.
#[derive(Debug, Default, Clone)]
pub struct Decisions(Arc<[u64]>);

impl OfferEntry {
    /// `listed` is false for one that is kept out of lists.
    pub fn new(text: Raw, listed: bool, part: usize, target: Arc<Target>) -> Self {
        let digest = Sha256::digest(text.bytes()).into();
        let judged = HASHER.hash_one((&target.object, &target.besides)) & !1;
        let older = <[OnceLock<Raw>; Version::ALL.len()]>::default();
        Self { text, modern: None, older, digest, listed, part, target, judged }
    }

    /// Has another text for modern clients.
    pub fn with_modern(self, modern: Raw) -> Self {
        let modern = (modern != self.text).then_some(modern);
        Self { modern, ..self }
    }

    fn text(&self, kind: ListKind, version: Version) -> &Raw {
        if version.era() == Era::Modern {
            return self.modern.as_ref().unwrap_or(&self.text);
        }
        let made = || compat::entry(version, kind.method(), &self.text);
        self.older.get(version as usize).map_or(&self.text, |older| older.get_or_init(made))
    }
}

impl Decisions {
    /// The decision on a thing, where there was one.
    fn find(&self, judged: u64) -> Option<bool> {
        let at = self.0.binary_search_by_key(&judged, |known| known & !1).ok()?;
        self.0.get(at).map(|known| known & 1 == 1)
    }
}

impl Offer {
    /// All entries of all lists.
    pub fn whole(
        lists: [Vec<OfferEntry>; ListKind::ALL.len()],
        servers: Servers,
        page_size: usize,
    ) -> Self {
        let lists = lists.map(|entries| {
            let all: Arc<[OfferEntry]> = entries.into();
            let rows = all.iter().any(|entry| !entry.listed);
            let rows = rows.then(|| listed(&all, |_| true));
            List { ready: Some(Box::default()), ..List::new(all, rows) }
        });
        Self { lists, servers, page_size, decisions: Decisions::default() }
    }

    /// The entries of this one that are seen; `earlier` spares asking again. Returns also which of
    /// so many parts of the route anything is seen of.
    pub fn seen(
        &self,
        parts: usize,
        earlier: &Decisions,
        sees: impl Fn(&Target) -> bool,
    ) -> (Self, Vec<bool>) {
        let mut decisions = Vec::new();
        let mut seen_of = vec![false; parts];
        let mut sees = |entry: &OfferEntry| {
            let asked = || sees(&entry.target);
            let seen = earlier.find(entry.judged).unwrap_or_else(asked);
            decisions.push(entry.judged | u64::from(seen));
            if let Some(part) = seen_of.get_mut(entry.part) {
                *part |= seen;
            }
            seen
        };
        let lists = self.lists.each_ref().map(|list| {
            let rows = listed(&list.all, &mut sees);
            List::new(Arc::clone(&list.all), Some(rows))
        });
        decisions.sort_unstable();
        decisions.dedup();
        let servers = Servers::default();
        let page_size = self.page_size;
        let decisions = Decisions(decisions.into());
        (Self { lists, servers, page_size, decisions }, seen_of)
    }

    pub fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Bytes that it holds and shares with no other.
    pub fn bytes(&self) -> usize {
        let rows = self.lists.iter().filter_map(|list| list.rows.as_ref());
        let rows: usize = rows.map(|rows| size_of_val(&**rows)).sum();
        let said = self.servers.instructions.as_ref().map_or(0, String::len);
        // Capabilities are some hundred bytes.
        size_of::<Self>() + 1_024 + rows + said + size_of_val(&*self.decisions.0)
    }

    /// A page of a list as a result object. An unknown cursor is one of an earlier list.
    ///
    /// # Errors
    /// Fails where the cursor is of another list, or of an earlier one.
    pub fn page(
        &self,
        kind: ListKind,
        cursor: Option<&str>,
        version: Version,
    ) -> Result<Raw, ErrorObject> {
        let list = self.list(kind);
        let size = self.page_size.max(1);
        let pages = list.len().div_ceil(size);
        let at = match cursor {
            // No cursor that was ever given out: clients write it that have none.
            None | Some("") => Some(0),
            Some(cursor) => {
                let at = cursor.rsplit_once('-').and_then(|(_, at)| at.parse().ok());
                at.filter(|at| (1..pages).contains(at) && list.cursor(*at) == cursor)
            }
        };
        let at = at.ok_or_else(|| {
            ErrorObject::new(
                INVALID_PARAMS,
                "the cursor is unknown or of an earlier list: list again from the start",
            )
        })?;
        let make = || {
            let entries = list.entries().skip(at.saturating_mul(size)).take(size);
            let texts: Vec<&Raw> = entries.map(|entry| entry.text(kind, version)).collect();
            let next = (at + 1 < pages).then(|| list.cursor(at + 1));
            self.page_of(kind, &texts, next.as_deref(), version.era())
        };
        let Some(ready) = list.first_page(version).filter(|_| at == 0) else { return Ok(make()) };
        if let Some(page) = ready.get() {
            return Ok(page.clone());
        }
        let page = make();
        if page.bytes().len() <= READY_BYTES_MAX {
            ready.get_or_init(|| page.clone());
        }
        Ok(page)
    }

    /// Whether this list is of a kind that the only server behind the route does not have, where it
    /// is shown as it is: it would say that it knows no such method.
    pub fn lacks(&self, kind: ListKind) -> bool {
        let servers = &self.servers;
        servers.server.is_some()
            && !servers.capabilities.contains_key(kind.capability())
            && self.count(kind) == 0
    }

    pub fn count(&self, kind: ListKind) -> usize {
        self.list(kind).len()
    }

    /// Hash of a list as clients see it: another one means that it looks different.
    pub fn fingerprint(&self, kind: ListKind) -> [u8; 32] {
        self.list(kind).fingerprint
    }

    /// The lists that look different to clients than in `earlier`.
    pub fn changed(&self, earlier: &Self) -> Vec<ListKind> {
        let differs = |kind: &ListKind| self.fingerprint(*kind) != earlier.fingerprint(*kind);
        ListKind::ALL.into_iter().filter(differs).collect()
    }

    /// A `ServerCapabilities` object: what the upstreams really have, as far as a client of this
    /// version can use it.
    pub fn capabilities(&self, version: Version) -> Raw {
        compat::server_capabilities(version, &Raw::encode(&self.servers.capabilities))
    }

    /// The extension of tasks as a client of this version is told of it; none where it may not use
    /// them. They are never listed: a server sees the gate, and cannot tell its clients apart.
    pub fn tasks(&self, version: Version) -> Option<Raw> {
        let may = self.servers.relays_tasks && version == Version::V2025_11_25;
        may.then(|| Raw::trusted(r#"{"cancel":{},"requests":{"tools":{"call":{}}}}"#))
    }

    pub fn instructions(&self) -> Option<&str> {
        self.servers.instructions.as_deref()
    }

    /// Returns whom clients speak to: the gate, or the only server of a route that never renames.
    pub fn server_info(&self) -> Raw {
        self.servers.server.clone().unwrap_or_else(gateway_info)
    }

    /// `_meta` of the gate's own modern results.
    pub fn server_meta(&self) -> String {
        format!("{{\"{SERVER_INFO}\":{}}}", self.server_info().as_str())
    }

    /// The smallest `ttlMs` of all parts, and whether all are public.
    pub fn cache_hints(&self) -> (u64, &'static str) {
        (self.servers.ttl_ms, if self.servers.public { "public" } else { "private" })
    }

    fn list(&self, kind: ListKind) -> &List {
        let [tools, prompts, resources, templates] = &self.lists;
        match kind {
            ListKind::Tools => tools,
            ListKind::Prompts => prompts,
            ListKind::Resources => resources,
            ListKind::Templates => templates,
        }
    }

    fn page_of(&self, kind: ListKind, texts: &[&Raw], next: Option<&str>, era: Era) -> Raw {
        let bytes: usize = texts.iter().map(|text| text.bytes().len() + 1).sum();
        let mut page = Vec::with_capacity(bytes + 512);
        page.extend_from_slice(format!("{{\"{}\":[", kind.member()).as_bytes());
        for (at, text) in texts.iter().enumerate() {
            if at != 0 {
                page.push(b',');
            }
            page.extend_from_slice(text.bytes());
        }
        page.push(b']');
        if let Some(next) = next {
            page.extend_from_slice(format!(",\"nextCursor\":\"{next}\"").as_bytes());
        }
        if era == Era::Modern {
            let (ttl_ms, scope) = self.cache_hints();
            let meta = self.server_meta();
            let hints = format!(
                r#","resultType":"complete","ttlMs":{ttl_ms},"cacheScope":"{scope}","_meta":{meta}"#
            );
            page.extend_from_slice(hints.as_bytes());
        }
        page.push(b'}');
        Raw::trusted(page)
    }
}

impl List {
    fn new(all: Arc<[OfferEntry]>, rows: Option<Box<[u32]>>) -> Self {
        let list = Self { all, rows, fingerprint: [0; 32], ready: None };
        let mut hash = Sha256::new();
        list.entries().for_each(|entry| hash.update(entry.digest));
        let fingerprint = hash.finalize().into();
        Self { fingerprint, ..list }
    }

    fn first_page(&self, version: Version) -> Option<&OnceLock<Raw>> {
        self.ready.as_ref()?.get(version as usize)
    }

    fn len(&self) -> usize {
        self.rows.as_ref().map_or(self.all.len(), |rows| rows.len())
    }

    fn entries(&self) -> impl Iterator<Item = &OfferEntry> {
        let some = self.rows.iter().flatten();
        let some = some.filter_map(|row| self.all.get(usize::try_from(*row).ok()?));
        let all = if self.rows.is_none() { &self.all[..] } else { &[] };
        all.iter().chain(some)
    }

    /// Names this very list, so that a cursor of an earlier one is refused.
    fn cursor(&self, page: usize) -> String {
        let [a, b, c, d, ..] = self.fingerprint;
        format!("{a:02x}{b:02x}{c:02x}{d:02x}-{page}")
    }
}

/// The numbers of the entries that stand in lists and pass.
fn listed(all: &[OfferEntry], mut passes: impl FnMut(&OfferEntry) -> bool) -> Box<[u32]> {
    let each = (0..).zip(all);
    each.filter_map(|(row, entry)| (passes(entry) && entry.listed).then_some(row)).collect()
}
