//! The answer of the tool `gateway_status`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::{RouteReport, UpstreamState};

/// A summary of the gateway.
#[derive(Debug, Serialize)]
pub struct GatewayStatus {
    pub version: String,
    pub uptime_seconds: u64,
    /// The count of upstreams in each state.
    pub upstreams: BTreeMap<&'static str, usize>,
    /// The upstreams that are degraded or failed.
    pub troubled: Vec<TroubledUpstream>,
    pub routes: Vec<RouteReport>,
    /// Counts since the gateway started, without those that are zero.
    pub counters: BTreeMap<String, u64>,
}

/// An upstream that does not work as it should.
#[derive(Debug, Serialize)]
pub struct TroubledUpstream {
    pub name: String,
    pub state: UpstreamState,
    pub last_error: Option<String>,
}
