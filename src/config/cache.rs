//! Results that are kept: how the file says them, and what of it belongs together.

use std::time::Duration;

use toml::Spanned;

use super::{
    problem::{Problem, nearest},
    reader::Reader,
    schema,
    value::Word,
};

/// `[cache]`: what holds for all results that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Bytes of all of them. Default 64 MiB: tens of thousands of the usual.
    pub bytes_max: usize,
    /// Bytes of one; a larger one is not kept. Default 1 MiB.
    pub entry_bytes_max: usize,
    /// Bytes of a request that is answered from memory; a larger one is passed on. Default 64 KiB:
    /// its canonical form is made for each.
    pub request_bytes_max: usize,
    /// What is done with what servers say of their resources. Default shared, as they say it.
    pub resources: Resources,
    /// No server's word is good for longer. Default 24 h.
    pub hint_max: Duration,
    /// Refreshes in the background at once. Default 64.
    pub refreshes_max: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            bytes_max: 64 << 20,
            entry_bytes_max: 1 << 20,
            request_bytes_max: 64 << 10,
            resources: Resources::Shared,
            hint_max: Duration::from_secs(24 * 60 * 60),
            refreshes_max: 64,
        }
    }
}

/// How far the hints of servers are followed (2026-07-28, caching).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resources {
    /// What is called public is everybody's.
    Shared,
    /// What is called public is kept for each caller apart, too.
    Caller,
    /// No resource is kept.
    Off,
}

/// `cache = { … }` of a tool: its results are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    pub ttl: Duration,
    /// The arguments that count; none: all.
    pub keys: Option<Vec<String>>,
    /// One caller's result is everybody's. Default false.
    pub public: bool,
    /// Served for so long after `ttl`, while it is asked for anew (RFC 5861). Default 0.
    pub stale: Duration,
    /// Served for so long after `ttl`, where the upstream fails (RFC 5861). Default 0.
    pub on_error: Duration,
    /// Also where the tool does not say that it only reads. Default false.
    pub even_if_writing: bool,
}

impl Word for Resources {
    const WORDS: &'static [(&'static str, Self)] =
        &[("shared", Self::Shared), ("caller", Self::Caller), ("off", Self::Off)];
}

/// What holds for all, right if the reader has no problem.
pub fn cache(section: schema::Cache, reader: &mut Reader<'_>) -> Cache {
    let (bytes_max, entry) = (section.bytes_max.value, section.entry_bytes_max.value);
    if let Some(span) = section.entry_bytes_max.span.or(section.bytes_max.span)
        && bytes_max.0 < entry.0
    {
        let title = format!("`bytes_max` is {bytes_max}, but `entry_bytes_max` is {entry}");
        let help = "make `entry_bytes_max` smaller, or `bytes_max` larger";
        reader.problem(Problem::new(span, title, help));
    }
    Cache {
        bytes_max: bytes_max.0,
        entry_bytes_max: entry.0,
        request_bytes_max: section.request_bytes_max.value.0,
        resources: section.resources.value,
        hint_max: section.hint_max.value.0,
        refreshes_max: section.refreshes_max.value.0,
    }
}

/// What is kept of a tool, right if the reader has no problem.
pub fn keep(section: Option<Spanned<schema::ToolCache>>, reader: &mut Reader<'_>) -> Option<Keep> {
    let section = section?;
    let span = section.span();
    let section = section.into_inner();
    if section.ttl.span.is_none() && !reader.faults(&span) {
        let help = "say for how long a result is good: cache = { ttl = \"10m\" }";
        reader.problem(Problem::new(span, "`ttl` is missing", help));
    }
    Some(Keep {
        ttl: section.ttl.value?.0,
        keys: section.keys.span.is_some().then_some(section.keys.value),
        public: section.public.value,
        stale: section.stale.value.0,
        on_error: section.on_error.value.0,
        even_if_writing: section.even_if_writing.value,
    })
}

/// Refuses to forget what is never kept. `tools` are those of one upstream.
pub fn refuse_unkept(tools: &[(Spanned<String>, schema::Tool)], reader: &mut Reader<'_>) {
    let kept = tools.iter().filter(|(_, tool)| tool.cache.span.is_some());
    let kept: Vec<_> = kept.map(|(name, _)| name.get_ref().as_str()).collect();
    for name in tools.iter().flat_map(|(_, tool)| &tool.invalidates.value) {
        if !kept.contains(&name.get_ref().as_str()) {
            let title = format!("nothing is kept of `{}`", name.get_ref());
            let help = match kept.is_empty() {
                true => "a tool of this upstream needs `cache = { ttl = \"…\" }`".to_owned(),
                false => nearest(name.get_ref(), kept.iter().copied()),
            };
            reader.problem(Problem::new(name.span(), title, help));
        }
    }
}
