//! Sections that say which results are kept.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    super::{
        cache::Resources,
        reader::Reader,
        value::{Count, Key, Kind, Node, Period, Size, table},
    },
    DAY, GIB, KIB, SECOND, default, unknown,
};

section! {
    /// Results that are kept in memory: of tools whose section has `cache`, and of resources whose
    /// server says how long they are good (2026-07-28).
    Cache {
        /// Bytes of all results that are kept; those used least make room.
        bytes_max: Size<KIB, { 64 * GIB }> = "64MiB",
        /// Bytes of one; a larger one is not kept.
        entry_bytes_max: Size<KIB, GIB> = "1MiB",
        /// Bytes of a request's params; what is larger is never answered from memory.
        request_bytes_max: Size<KIB, GIB> = "64KiB",
        /// What servers say of their resources: what is public is everybody's ("shared"), is kept
        /// for each caller apart all the same ("caller"), or no resource is kept ("off").
        resources: Resources = "shared",
        /// No resource is good for longer, whatever its server says.
        hint_max: Period<SECOND, { 365 * DAY }> = "24h",
        /// Results that are asked for anew at once, while the old ones are served (`stale`).
        refreshes_max: Count<1, 100_000> = 64,
    }
}

section! {
    /// The results of a tool are kept and served again: never an error, a task, or the result of a
    /// call in which something was asked.
    ToolCache {
        /// How long a result is good.
        ttl: Option<Period<1, { 365 * DAY }>>,
        /// The arguments that a result depends on, by their names; without it, all. With it, name
        /// every one that matters: what differs in others only is served the same result.
        keys: Vec<String>,
        /// Whether a result is the same for every caller. Without it each has its own.
        public: bool = false,
        /// For how long after `ttl` a result is served still, while it is asked for anew.
        stale: Period<0, { 365 * DAY }> = "0s",
        /// For how long after `ttl` a result is served where the upstream fails.
        on_error: Period<0, { 365 * DAY }> = "0s",
        /// Whether results are kept also where the tool does not say that it only reads
        /// (`readOnlyHint`): a call that is answered from memory changes nothing.
        even_if_writing: bool = false,
    }
}
