//! The whole gate behind one `Arc`: immutable, built whole from the configuration and the snapshot
//! before, swapped whole.
//!
//! Everything that outlives a reload (upstreams, catalogs, sessions, counters) has its own `Arc`
//! inside and moves over by name, as long as its own section of the configuration stays the same.

mod announcement;
mod certificates;
mod current;
mod gate;
mod migration;
mod names;
mod offers;
mod publish;
mod push;
mod readiness;
mod report;
mod revocation;
mod route;
mod settling;
mod subscriber;
mod upstream_entry;

use std::time::Duration;

pub use self::{
    announcement::Push,
    current::Snapshot,
    gate::{CallLogs, Gate, RouteSnapshot},
    migration::ActiveCanary,
    readiness::Readiness,
    route::Route,
    subscriber::Subscriber,
    upstream_entry::{UpstreamEntry, offline},
};

/// How often a keeper's work is looked at by those who wait for it.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
