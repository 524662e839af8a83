//! The section that says where limits are counted.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;

use super::{
    super::{
        reader::Reader,
        store::{Prefix, StoreUrl},
        value::{Count, Key, Kind, Node, Period, Reference, table},
    },
    SECOND, default, unknown,
};

section! {
    /// Where the `limits` of routes, upstreams and tools are counted. Without a store each gate
    /// counts by itself.
    Sharing {
        /// A Redis (5 or later) or Valkey, in which several gates count together:
        /// "redis://HOST:PORT/DATABASE", "rediss://…" with TLS, or `env:NAME` or `file:PATH` of
        /// that. While it is away each gate counts by itself, and no call fails.
        store: Option<Spanned<StoreUrl>>,
        /// `env:NAME` or `file:PATH` of its password.
        store_password: Option<Reference>,
        /// How long a request waits for it, before this gate decides alone.
        store_timeout: Period<1, { 10 * SECOND }> = "50ms",
        /// Requests that may wait for it at once; one more waits for them, within the same time.
        store_in_flight_max: Count<1, 100_000> = 256,
        /// What its keys begin with. Gates that have the same one count together.
        store_prefix: Prefix = "tollgate",
    }
}
