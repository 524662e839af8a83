//! `[cache]`: which results are kept, and served again.

use super::toml::{
    problem::Problem,
    reader::Reader,
    section::{DAY, Fields, GIB, KIB, SECOND},
    table::section,
    value::{BoundedDuration, Count, Size, size, words},
};

/// Help where `ttl` is missing.
const TTL: &str = "say for how long a result is good: cache = { ttl = \"10m\" }";

section! {
    /// Results that are kept in memory: of tools whose section has `cache`, and of resources whose
    /// server says how long they are good (2026-07-28).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    Cache checked by check_sizes {
        /// Bytes of all results that are kept; those used least make room.
        // Tens of thousands of the usual.
        bytes_max: Size<KIB, { 64 * GIB }> = "64MiB",
        /// Bytes of one; a larger one is not kept.
        entry_bytes_max: Size<KIB, GIB> = "1MiB",
        /// Bytes of a request's params; what is larger is never answered from memory.
        // Its canonical form is made for each.
        request_bytes_max: Size<KIB, GIB> = "64KiB",
        /// The use of what servers say of their resources: what is public is everybody's
        /// ("shared"), is kept for each caller apart all the same ("caller"), or no resource is
        /// kept ("off").
        resources: Resources = "shared",
        /// No resource is good for longer, whatever its server says.
        hint_max: BoundedDuration<SECOND, { 365 * DAY }> = "24h",
        /// Results that are asked for anew at once, while the old ones are served (`stale`).
        refreshes_max: Count<1, 100_000> = 64,
    }
}

words! {
    /// How far the hints of servers are followed (2026-07-28, caching).
    Resources {
        /// Keeps what is called public for everybody.
        Shared = "shared",
        /// Keeps what is called public for each caller apart, too.
        Caller = "caller",
        /// No resource is kept.
        Off = "off",
    }
}

section! {
    /// The results of a tool are kept and served again: never an error, a task, or the result of a
    /// call in which something was asked.
    #[derive(Debug, Clone, PartialEq, Eq)]
    Keep {
        /// How long a result is good.
        ttl: BoundedDuration<1, { 365 * DAY }> = required TTL,
        /// The arguments that a result depends on, by their names; without it, all. With it, name
        /// every one that matters: what differs in others only is served the same result.
        keys: Option<Vec<String>>,
        /// Whether a result is the same for every caller. Without it each has its own.
        public: bool = false,
        /// The time after `ttl` for which a result is still served, while it is asked for anew (RFC
        /// 5861).
        stale: BoundedDuration<0, { 365 * DAY }> = "0s",
        /// The time after `ttl` for which a result is served where the upstream fails (RFC 5861).
        on_error: BoundedDuration<0, { 365 * DAY }> = "0s",
        /// Whether results are kept also where the tool does not say that it only reads
        /// (`readOnlyHint`): a call that is answered from memory changes nothing.
        even_if_writing: bool = false,
    }
}

fn check_sizes(keys: &mut Fields<Cache>, reader: &mut Reader<'_>) {
    let all = &keys.bytes_max;
    let entry = &keys.entry_bytes_max;
    if let Some(span) = entry.span.as_ref().or(all.span.as_ref())
        && all.value < entry.value
    {
        let most = size(all.value);
        let one = size(entry.value);
        let title = format!("`bytes_max` is {most}, but `entry_bytes_max` is {one}");
        let help = "make `entry_bytes_max` smaller, or `bytes_max` larger";
        reader.problem(Problem::new(span.clone(), title, help));
    }
}
