//! Reads a list of one upstream page by page: what of it is good, what was wrong, and why it ended.

use std::{collections::HashSet, fmt, time::Duration};

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::{
    call::ListKind,
    config::{Limits, Timeout},
    mcp::{
        error::{INVALID_PARAMS, METHOD_NOT_FOUND, code_of},
        message::Body,
        method::Method,
        raw::Raw,
        splice,
    },
    upstream::{ListingConnection, SendError, Upstream},
};

use super::{
    entry::{EntryBounds, Flaw},
    item::{CacheHints, Item},
};

/// Remarks about one list that are kept for operators; more are counted.
pub const REMARKS_MAX: usize = 1_000;
/// Characters of an entry's name in a remark.
const NAME_SHOWN: usize = 128;

/// How much of an upstream's lists is read and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListBounds {
    pub items_max: usize,
    pub pages_max: usize,
    pub entry_bytes_max: usize,
    pub list_bytes_max: usize,
    /// Bytes of all lists of one upstream together.
    pub lists_bytes_max: usize,
    pub depth_max: usize,
}

impl ListBounds {
    pub fn of(limits: &Limits) -> Self {
        Self {
            items_max: limits.list_items_max,
            pages_max: limits.list_pages_max,
            entry_bytes_max: limits.entry_bytes_max,
            list_bytes_max: limits.list_bytes_max,
            lists_bytes_max: limits.lists_bytes_max,
            depth_max: limits.depth_max,
        }
    }

    pub(super) fn entry(self) -> EntryBounds {
        EntryBounds { bytes_max: self.entry_bytes_max, depth_max: self.depth_max }
    }
}

/// The list that is asked for, and within which bounds.
#[derive(Debug, Clone, Copy)]
pub struct ListRequest {
    pub kind: ListKind,
    pub bounds: ListBounds,
    /// `open` is for each page, `total` for all.
    pub timeout: Timeout,
    /// The transport is HTTP: a tool whose `x-mcp-header` is wrong must not be offered.
    pub strict_mirrors: bool,
}

/// A list as it was read.
#[derive(Debug)]
pub struct ListReading {
    pub kind: ListKind,
    /// The good entries, up to where it ended.
    pub items: Vec<Item>,
    /// None where no page was read.
    pub hints: Option<CacheHints>,
    pub remarks: Vec<Remark>,
    /// Why it is not whole.
    pub error: Option<ListError>,
    keys: HashSet<String>,
    /// Entries so far, good or not.
    count: usize,
    /// Bytes of the good entries.
    bytes: usize,
}

/// The first entries of an array, so many at most: of millions nobody wants to know where each
/// begins.
struct First(usize);

/// Fault of one entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Remark {
    /// Its name, or which one of the list it is.
    pub entry: String,
    pub what: String,
    pub left_out: bool,
}

/// Why a list could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("it was refused: {0:?}")]
    Refused(Raw),
    #[error("the answer is no list")]
    Shape,
    #[error("it was not answered within {0:?}")]
    Slow(Duration),
    /// A bound of the gate's: what was read until then is served.
    #[error("it has more than {many} {what} (`{key}`): the rest is left out")]
    Cut { many: usize, what: &'static str, key: &'static str },
}

impl ListError {
    /// Whether the beginning was read, and the rest is left out.
    pub fn is_cut(&self) -> bool {
        matches!(self, Self::Cut { .. })
    }

    /// Whether the server itself gave an answer that it would hardly change in a moment.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Refused(error) => code_of(error) == INVALID_PARAMS,
            // An answer that is too large is dear to look at again, too.
            Self::Shape | Self::Cut { .. } | Self::Send(SendError::TooLarge(_)) => true,
            Self::Send(_) | Self::Slow(_) => false,
        }
    }
}

/// The connection that a list is read on.
#[derive(Debug, Clone, Copy)]
pub enum Via<'a> {
    Shared(&'a Upstream),
    Asking(&'a ListingConnection),
}

impl Via<'_> {
    async fn ask(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        match self {
            Self::Shared(upstream) => upstream.ask(method, params).await,
            Self::Asking(asking) => asking.ask(method, params).await,
        }
    }
}

impl ListReading {
    /// The reading of a list that the server does not have.
    pub fn none(kind: ListKind) -> Self {
        Self {
            kind,
            items: Vec::new(),
            hints: None,
            remarks: Vec::new(),
            error: None,
            keys: HashSet::new(),
            count: 0,
            bytes: 0,
        }
    }

    /// Reads all pages.
    pub async fn read(via: Via<'_>, request: ListRequest) -> Self {
        let mut reading = Self::none(request.kind);
        let total = request.timeout.total;
        let ended = timeout(total, reading.pages(via, request)).await;
        reading.error = ended.unwrap_or(Err(ListError::Slow(total))).err();
        reading
    }

    async fn pages(&mut self, via: Via<'_>, request: ListRequest) -> Result<(), ListError> {
        let method = self.kind.method();
        let bounds = request.bounds;
        let patience = request.timeout.open;
        let mut cursors = HashSet::new();
        let mut params = Raw::object();
        let mut bytes = 0;
        for _ in 0..bounds.pages_max {
            let asked = timeout(patience, via.ask(method, &params)).await;
            let Ok(asked) = asked else { return Err(ListError::Slow(patience)) };
            let result = match asked? {
                Body::Result(result) => result,
                // The server said that it has the capability, but not this list: templates, often.
                Body::Error(error) if code_of(&error) == METHOD_NOT_FOUND => return Ok(()),
                Body::Error(error) => return Err(ListError::Refused(error)),
            };
            let next = self.add(&result, request)?;
            bytes += result.bytes().len();
            // A cursor that was given before leads to what was read before.
            let Some(next) = next.filter(|next| cursors.insert(next.clone())) else {
                return Ok(());
            };
            if bounds.list_bytes_max < bytes {
                return Err(too_many_bytes(bounds));
            }
            params = splice::insert(&Raw::object(), "cursor", &next);
        }
        let many = bounds.pages_max;
        let what = "pages";
        let key = "list_pages_max";
        Err(ListError::Cut { many, what, key })
    }

    /// Takes the entries of a page; returns the cursor of the next.
    fn add(&mut self, result: &Raw, request: ListRequest) -> Result<Option<Raw>, ListError> {
        if !result.is_object() {
            return Err(ListError::Shape);
        }
        let list = splice::member(result, self.kind.member()).ok_or(ListError::Shape)?;
        let room = request.bounds.items_max.saturating_sub(self.count);
        let mut text = serde_json::Deserializer::from_slice(list.bytes());
        let entries = First(room + 1).deserialize(&mut text).ok().ok_or(ListError::Shape)?;
        let page = CacheHints::of(result);
        let hints = self.hints.get_or_insert(CacheHints { ttl_ms: u64::MAX, public: true });
        hints.ttl_ms = hints.ttl_ms.min(page.ttl_ms);
        hints.public &= page.public;
        for entry in entries {
            self.add_entry(entry, request)?;
        }
        Ok(next_cursor(result))
    }

    fn add_entry(&mut self, entry: &RawValue, request: ListRequest) -> Result<(), ListError> {
        let bounds = request.bounds;
        self.count += 1;
        if bounds.items_max < self.count {
            let many = bounds.items_max;
            let what = "entries";
            let key = "list_items_max";
            return Err(ListError::Cut { many, what, key });
        }
        // A copy of its own where it is kept: a part would keep the whole page in memory.
        let text = entry.get();
        let found = if bounds.entry_bytes_max < text.len() {
            Err(Flaw::Large(bounds.entry_bytes_max))
        } else {
            let raw = Raw::trusted(text.to_owned());
            Item::of(self.kind, &raw, bounds.entry(), request.strict_mirrors)
        };
        match found {
            Ok((item, _)) if !self.keys.insert(item.key.clone()) => {
                self.remark(&item.key, Flaw::Repeated.to_string(), true);
            }
            Ok((item, mended)) => {
                self.bytes += item.raw.bytes().len();
                if bounds.list_bytes_max < self.bytes {
                    return Err(too_many_bytes(bounds));
                }
                if !mended.is_empty() {
                    self.remark(&item.key, format!("mended: `{}`", mended.join("`, `")), false);
                }
                self.items.push(item);
            }
            Err(flaw) => {
                let name = name_of(self.kind, text);
                let name = name.unwrap_or_else(|| format!("number {}", self.count));
                self.remark(&name, flaw.to_string(), true);
            }
        }
        Ok(())
    }

    fn remark(&mut self, entry: &str, what: String, left_out: bool) {
        if REMARKS_MAX <= self.remarks.len() {
            return;
        }
        let entry = entry.chars().take(NAME_SHOWN).collect();
        self.remarks.push(Remark { entry, what, left_out });
    }
}

impl<'de> DeserializeSeed<'de> for First {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, list: D) -> Result<Self::Value, D::Error> {
        list.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for First {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while entries.len() < self.0 {
            let Some(entry) = list.next_element()? else { return Ok(entries) };
            entries.push(entry);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(entries)
    }
}

/// Name of an entry that cannot be used.
fn name_of(kind: ListKind, entry: &str) -> Option<String> {
    // The bytes of an entry that is looked at: one that is large or deep is not worth the reading.
    const LOOKED_AT: usize = 4_096;
    if !entry.starts_with('{') || LOOKED_AT < entry.len() {
        return None;
    }
    let entry = Raw::trusted(entry.to_owned());
    let name = splice::member(&entry, kind.key())?.try_read::<String>();
    name.filter(|name| !name.is_empty())
}

/// The cursor in the server's own words, whatever it is made of; none at the end, which some say
/// with `null`, `false`, or something empty.
fn next_cursor(result: &Raw) -> Option<Raw> {
    let cursor = splice::member(result, "nextCursor")?;
    let first = *cursor.bytes().first()?;
    (first == b'"' || first == b'-' || first.is_ascii_digit()).then_some(cursor)
}

fn too_many_bytes(bounds: ListBounds) -> ListError {
    let many = bounds.list_bytes_max;
    let what = "bytes";
    let key = "list_bytes_max";
    ListError::Cut { many, what, key }
}
