//! The report of the gateway on itself, for agents and for operators.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Takes a report of this moment. Called for every question: cheap, and never blocking.
pub type ReportSource = Arc<dyn Fn() -> Report + Send + Sync>;

#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
pub struct Report {
    pub version: String,
    pub uptime_seconds: u64,
    pub routes: Vec<RouteReport>,
    pub upstreams: Vec<UpstreamReport>,
    pub counters: BTreeMap<String, u64>,
    /// Budgets of `limits`, and what is left of each.
    pub budgets: Vec<BudgetReport>,
    /// Certificates that the configuration names.
    pub certificates: Vec<CertificateReport>,
    /// Reasons why the whole gate works less well for now.
    pub degraded: Vec<String>,
    /// Why the last edit of the configuration is not in force.
    pub edit_refused: Option<String>,
}

/// A certificate that the configuration names.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CertificateReport {
    /// The key of the configuration that leads to it.
    pub key: String,
    /// The end of its validity, in seconds since 1970.
    pub expires: u64,
}

/// An endpoint of the gateway, and how much it offers.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RouteReport {
    /// The path that clients connect to.
    pub path: String,
    pub tools: usize,
    pub prompts: usize,
    pub resources: usize,
    pub templates: usize,
    /// Its upstreams that are not ready: what they offer is missing, or is the last known.
    pub degraded: Vec<String>,
    /// Entries that clients know by another name than their own, since that is somebody else's or
    /// does not fit; 100 at most.
    pub other_names: Vec<OtherName>,
}

/// An entry that clients know by another name than its own.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct OtherName {
    /// `tools`, `prompts`, `resources` or `resourceTemplates`.
    pub kind: String,
    /// The name that clients know.
    pub name: String,
    pub upstream: String,
    /// The upstream's own name for it.
    pub own: String,
    pub why: String,
}

/// A budget of a section's `limits`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct BudgetReport {
    /// `route`, `upstream` or `tool`.
    pub kind: &'static str,
    /// The path or the name that the section is of; `UPSTREAM/TOOL` for a tool.
    pub name: String,
    /// The budget as the configuration writes it, and the words that it is `per`.
    pub budget: String,
    pub amount: u32,
    /// How much whoever has used most of it has left; with a store, by this gate's own count.
    pub left: u32,
}

/// A server behind the gateway.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct UpstreamReport {
    pub name: String,
    pub kind: UpstreamKind,
    pub state: UpstreamState,
    /// The protocol spoken with it: `2026-07-28`, or `legacy` and a version. Null until agreed.
    pub era: Option<String>,
    /// The name and version that it gives itself.
    pub server: Option<String>,
    pub tools: usize,
    pub prompts: usize,
    pub resources: usize,
    pub templates: usize,
    /// The origin of its lists. Null if nothing is known of it.
    pub listed_from: Option<ListSource>,
    /// The last failure, and what an operator can do about it.
    pub last_error: Option<String>,
    /// What the server itself said of it, such as the line of its standard error that says best
    /// why it ended. For operators: it may be of one client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_words: Option<String>,
    /// When it was opened, or has been out of reach since (RFC 3339). Null until it was tried.
    pub since: Option<String>,
    /// When the gate last began to open it.
    pub last_try: Option<String>,
    /// When the gate opens it again at the latest: a call may be sooner.
    pub next_try: Option<String>,
    pub restarts: u64,
    pub calls: u64,
    pub failures: u64,
    /// Its running processes.
    pub processes: usize,
    /// Its lists that are not as it has them, by their methods, and why: what was known of them
    /// before is offered.
    pub lists: BTreeMap<String, String>,
    /// Entries of its lists that are left out, since clients could not read them; and why.
    pub left_out: Vec<String>,
    /// Entries that are offered without what was wrong with them.
    pub mended: Vec<String>,
    /// Its tools whose arguments cannot be checked, since their schemas are of no use; and why.
    pub unusable_schemas: Vec<String>,
    /// The servers that are the same one, where there are several.
    pub replicas: Vec<ReplicaReport>,
    /// The server that is to take its place, where one is on trial.
    pub canary: Option<CanaryReport>,
    /// The state of its breaker. Null if it has none.
    pub breaker: Option<BreakerStatus>,
    /// Times that a breaker of it, or of one of its tools, opened.
    pub breaker_opened: u64,
    /// Calls that one refused.
    pub breaker_refused: u64,
    /// Its tools that have a breaker of their own.
    pub tool_breakers: BTreeMap<String, BreakerStatus>,
    /// Retries that its budget has left. Null where no call is sent again.
    pub retries_left: Option<u64>,
}

/// One of several servers that are the same.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReplicaReport {
    pub url: String,
    pub state: UpstreamState,
    /// Set while it gets no calls because it did worse than the others.
    pub ejected: bool,
    /// Set while it gets no calls because it does not answer its probes.
    pub ill: bool,
    /// Set while it gets no calls because those before them failed: its breaker is open.
    pub tripped: bool,
    /// Calls that are under way there.
    pub in_flight: u32,
    pub calls: u64,
}

/// A server on trial in the place of another.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CanaryReport {
    /// The name of its upstream.
    pub upstream: String,
    /// Percent of callers that it gets; 0 once it was taken back.
    pub weight: u32,
    /// Why it was taken back, and gets nothing until its section is edited.
    pub back: Option<String>,
}

/// Whether calls are let through, or refused because those before them failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BreakerStatus {
    Closed,
    Open,
    /// A few are let through, to see how they fare.
    HalfOpen,
}

/// The transport to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    Stdio,
    Http,
    /// The HTTP+SSE of protocol 2024-11-05.
    Sse,
    Builtin,
}

/// The state of an upstream.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamState {
    /// Not opened yet; the first call opens it.
    Idle,
    Opening,
    Ready,
    /// Ready before, or in part; what is known of it is still listed.
    Degraded,
    /// Its breaker is open: calls are refused, because those before them failed.
    Tripped,
    /// Not to be opened; it is tried again.
    Failed,
}

/// The origin of an upstream's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListSource {
    Upstream,
    /// The last good ones, kept from before.
    Disk,
}

impl ReplicaReport {
    /// Tells whether it gets calls.
    pub fn is_well(&self) -> bool {
        matches!(self.state, UpstreamState::Ready | UpstreamState::Idle)
            && !self.ejected
            && !self.ill
            && !self.tripped
    }
}

impl UpstreamKind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Http => "http",
            Self::Sse => "sse",
            Self::Builtin => "builtin",
        }
    }
}

impl BreakerStatus {
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

impl UpstreamState {
    pub const ALL: [Self; 6] =
        [Self::Idle, Self::Opening, Self::Ready, Self::Degraded, Self::Tripped, Self::Failed];

    pub fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Opening => "opening",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Tripped => "tripped",
            Self::Failed => "failed",
        }
    }
}
