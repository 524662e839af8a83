//! What the gateway says about itself; the comments below are what an agent reads in the schemas.

use std::{collections::BTreeMap, sync::Arc};

use schemars::{JsonSchema, Schema, transform::transform_subschemas};
use serde::{Deserialize, Serialize};

/// Takes a report of this moment. Called for every question: cheap, and never blocking.
pub type Look = Arc<dyn Fn() -> Report + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub version: String,
    pub uptime_seconds: u64,
    pub routes: Vec<Route>,
    pub upstreams: Vec<Upstream>,
    pub counters: BTreeMap<String, u64>,
    /// What the whole gate does less well for now, and why.
    pub degraded: Vec<String>,
    /// Why the last edit of the configuration is not in force.
    pub edit_refused: Option<String>,
}

/// An endpoint of the gateway, and how much it offers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Route", transform = without_formats)]
pub struct Route {
    /// The path that clients connect to.
    pub path: String,
    pub tools: usize,
    pub prompts: usize,
    pub resources: usize,
    pub templates: usize,
    /// Its upstreams that are not ready: what they offer is missing, or is the last known.
    pub degraded: Vec<String>,
}

/// A server behind the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(transform = without_formats)]
pub struct Upstream {
    pub name: String,
    pub kind: Kind,
    pub state: State,
    /// The protocol spoken with it: `2026-07-28`, or `legacy` and a version. Null until agreed.
    pub era: Option<String>,
    /// The name and version that it gives itself.
    pub server: Option<String>,
    pub tools: usize,
    pub prompts: usize,
    pub resources: usize,
    pub templates: usize,
    /// Where its lists come from. Null if nothing is known of it.
    pub listed_from: Option<Source>,
    /// What went wrong last, and what an operator can do about it.
    pub last_error: Option<String>,
    pub restarts: u64,
    pub calls: u64,
    pub failures: u64,
    /// Its running processes.
    pub processes: usize,
}

/// How an upstream is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Kind {
    Stdio,
    Http,
    /// The HTTP+SSE of protocol 2024-11-05.
    Sse,
    Builtin,
}

/// How far an upstream has come.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum State {
    /// Not opened yet; the first call opens it.
    Idle,
    Opening,
    Ready,
    /// It was ready before, or part of it is; what is known of it is still listed.
    Degraded,
    /// It could not be opened; it is tried again.
    Failed,
}

/// Where the lists of an upstream come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Source {
    Upstream,
    /// The last good ones, kept from before.
    Disk,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Http => "http",
            Self::Sse => "sse",
            Self::Builtin => "builtin",
        }
    }
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Opening => "opening",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// Takes out `format`: Rust's widths of integers are none that validators know, and some complain
/// of each one.
pub fn without_formats(schema: &mut Schema) {
    schema.remove("format");
    transform_subschemas(&mut without_formats, schema);
}
