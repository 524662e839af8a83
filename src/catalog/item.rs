//! An entry of a list, and how long its server lets lists be kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    call::ListKind,
    mcp::{mirror::Mirrors, raw::Raw, splice},
};

use super::entry::{self, EntryBounds, Fitted, Flaw};

/// The server's own words on how long, and for whom, a list may be kept (2026-07-28, caching).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheHints {
    pub ttl_ms: u64,
    pub public: bool,
}

impl CacheHints {
    /// Reads the hints of a page; what is no number of milliseconds is none.
    pub fn of(page: &Raw) -> Self {
        let ttl = splice::member(page, "ttlMs").and_then(|ttl| ttl.try_read::<f64>());
        let scope = splice::member(page, "cacheScope");
        let public = scope.is_some_and(|scope| scope.as_str() == "\"public\"");
        let whole = Duration::try_from_secs_f64(ttl.unwrap_or_default() / 1_000.0);
        let ttl_ms = whole.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        Self { ttl_ms, public }
    }
}

/// An entry of a list, as the upstream wrote it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq)]
pub struct Item {
    /// Its name, URI or template.
    pub key: String,
    pub raw: Raw,
    /// Arguments mirrored in headers.
    #[serde(skip)]
    pub mirrors: Mirrors,
    /// The entry as the upstream wrote it, where clients are shown something else.
    #[serde(skip)]
    said: Option<Raw>,
}

impl Item {
    /// Returns the entry as the upstream wrote it.
    pub fn said(&self) -> &Raw {
        self.said.as_ref().unwrap_or(&self.raw)
    }

    pub(super) fn shown(&self, raw: Raw) -> Self {
        let said = (raw != self.raw).then(|| self.said().clone());
        Self { raw, said: said.or_else(|| self.said.clone()), ..self.clone() }
    }

    /// An entry as clients can read it, and what was mended of it.
    ///
    /// # Errors
    /// Why it is left out.
    pub fn of(
        kind: ListKind,
        entry: &Raw,
        bounds: EntryBounds,
        strict_mirrors: bool,
    ) -> Result<(Self, Vec<&'static str>), Flaw> {
        let Fitted { key, raw, mended } = entry::fit(kind, entry, bounds)?;
        let found = if kind == ListKind::Tools { mirrors(&raw) } else { Ok(Mirrors::default()) };
        if let (Err(why), true) = (&found, strict_mirrors) {
            return Err(Flaw::Mirror(why.clone()));
        }
        let mirrors = found.unwrap_or_default();
        Ok((Self { key, raw, mirrors, said: None }, mended))
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
