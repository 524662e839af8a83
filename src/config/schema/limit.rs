//! Sections that say how much may be asked for.

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    super::{
        limit::{Budget, COUNT_MAX, Per, Rate},
        reader::Reader,
        value::{Count, Key, Kind, Node, Period, table},
    },
    MINUTE, default, unknown,
};

section! {
    /// A cost that an argument says, and 1 at least: as much as an array has items, or as a number
    /// is, rounded up.
    ArgumentCost {
        /// The argument, as a JSON Pointer: "/items".
        argument: Option<String>,
    }
}

section! {
    /// How much may be asked for: a `rate` or a `budget`. What one limit refuses counts in none.
    Limit {
        /// What has a bucket of its own: each "caller" (who asks, as the gate knows it), "client"
        /// (the program's name, as it says itself: who changes it has a new bucket, so it bounds
        /// nobody alone), "route", "upstream", "tool" (what is no tool counts by its method), or
        /// each pair and so on of them. Without any, all share one.
        per: Vec<Per>,
        /// How much in how long, steadily: "60/min"; "/s", "/h" and "/d" exist too.
        rate: Option<Rate>,
        /// How much of it may come at once; without it, the number in `rate`.
        burst: Option<Count<1, { COUNT_MAX as usize }>>,
        /// How much in each day or month of the calendar (UTC): "10000/day", "200000/month".
        /// Without a store of `[limit]` it is counted in memory: a restart begins anew.
        budget: Option<Budget>,
    }
}

section! {
    /// How many calls may be under way at once. One that waits for its client's next request has
    /// given its place back.
    InFlight {
        /// So many.
        max: Option<Count<1, 1_000_000>>,
        /// How long one more waits for a place, before it is refused; first come, first served.
        wait: Period<0, { 10 * MINUTE }> = "0s",
    }
}
