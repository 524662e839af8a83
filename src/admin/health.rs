//! `/readyz`: whether a balancer should send calls here, and all that does not work as it should.

use std::collections::BTreeMap;

use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    builtin::report::{CanaryReport, ReplicaReport, Report, UpstreamReport, UpstreamState},
    snapshot::{Gate, Readiness},
};

/// The health of the gate.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Health {
    pub status: HealthStatus,
    /// Why every call is refused, where the status is `unrecorded`.
    pub why: Option<String>,
    /// The upstreams that are not ready, or of which a replica is not.
    pub troubled: Vec<TroubledUpstream>,
    /// Tools whose arguments cannot be checked, by upstream, and why.
    pub unusable_schemas: BTreeMap<String, Vec<String>>,
    /// Entries that clients are not offered, by upstream, and why.
    pub left_out: BTreeMap<String, Vec<String>>,
    /// What works less well for now.
    pub degraded: Vec<String>,
    /// Why the last edit of the configuration is not in force.
    pub edit_refused: Option<String>,
}

/// Whether calls are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    Ready,
    /// It is not known yet what the upstreams offer.
    Starting,
    /// The gate drains.
    Stopping,
    /// No call can be recorded, so each is refused.
    Unrecorded,
}

/// An upstream that is not well.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TroubledUpstream {
    pub name: String,
    pub state: UpstreamState,
    pub last_error: Option<String>,
    pub last_words: Option<String>,
    /// When it was opened, or has been out of reach since (RFC 3339).
    pub since: Option<String>,
    /// When the gate last began to open it.
    pub last_try: Option<String>,
    /// When the gate opens it again at the latest: a call may be sooner.
    pub next_try: Option<String>,
    /// Its lists that are not as it has them, and why.
    pub lists: BTreeMap<String, String>,
    /// Its replicas that are not well, where it has several.
    pub replicas: Vec<ReplicaReport>,
    pub canary: Option<CanaryReport>,
}

impl Health {
    /// Ready is a gate that takes calls, whatever its upstreams do: one that is down costs its own
    /// tools, and no balancer should take the whole gate away for it. What does not work meanwhile
    /// is named.
    pub fn of(gate: &Gate) -> Self {
        let Report { upstreams, degraded, edit_refused, .. } = gate.report();
        let (status, why) = match gate.readiness() {
            Readiness::Ready => (HealthStatus::Ready, None),
            Readiness::Starting => (HealthStatus::Starting, None),
            Readiness::Stopping => (HealthStatus::Stopping, None),
            Readiness::Unrecorded(why) => (HealthStatus::Unrecorded, Some(why)),
        };
        let named = |of: fn(&UpstreamReport) -> &Vec<String>| {
            let some = upstreams.iter().filter(|one| !of(one).is_empty());
            some.map(|one| (one.name.clone(), of(one).clone())).collect()
        };
        let unusable_schemas = named(|one| &one.unusable_schemas);
        let left_out = named(|one| &one.left_out);
        let troubled = upstreams.into_iter().filter(|one| !is_well(one));
        let troubled = troubled.map(TroubledUpstream::of).collect();
        Self { status, why, troubled, unusable_schemas, left_out, degraded, edit_refused }
    }

    /// The HTTP status that tells a balancer as much.
    pub fn http_status(&self) -> StatusCode {
        match self.status {
            HealthStatus::Ready => StatusCode::OK,
            HealthStatus::Starting | HealthStatus::Stopping | HealthStatus::Unrecorded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

impl TroubledUpstream {
    fn of(report: UpstreamReport) -> Self {
        Self {
            name: report.name,
            state: report.state,
            last_error: report.last_error,
            last_words: report.last_words,
            since: report.since,
            last_try: report.last_try,
            next_try: report.next_try,
            lists: report.lists,
            replicas: report.replicas.into_iter().filter(|replica| !replica.is_well()).collect(),
            canary: report.canary,
        }
    }
}

fn is_well(report: &UpstreamReport) -> bool {
    let back = report.canary.as_ref().and_then(|canary| canary.back.as_ref());
    matches!(report.state, UpstreamState::Ready | UpstreamState::Idle)
        && report.replicas.iter().all(ReplicaReport::is_well)
        && back.is_none()
}
