//! Settings of an upstream, and what all upstreams of a gate share.

use std::sync::Arc;

use crate::{
    builtin,
    call::tasks::Tasks,
    config::{self, Transport},
    net::Net,
    process,
    store::StateFolder,
    telemetry::Counters,
    upstream::{replica::openings::Openings, transport::read_budget::ReadBudget},
};

/// Settings that make an upstream. Equal settings mean the same object across a reload.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The section without its filters: what is shown of an upstream does not make it another
    /// server.
    pub config: config::Upstream,
    pub answer_bytes_max: usize,
}

impl Settings {
    /// The settings of one of several replicas.
    pub fn of_replica(&self, address: &str) -> Self {
        let mut settings = self.clone();
        if let Transport::Http { url, .. } = &mut settings.config.transport {
            address.clone_into(url);
        }
        settings
    }
}

/// State that all upstreams of a gate share.
pub struct UpstreamContext {
    pub net: Net,
    /// The folder that keeps what a server was found to speak.
    pub store: StateFolder,
    pub openings: Arc<Openings>,
    /// Bytes of large answers that are being read.
    pub reading: Arc<ReadBudget>,
    pub spawner: process::Spawner,
    pub counters: Arc<Counters>,
    pub look: builtin::report::ReportSource,
    pub tasks: Tasks,
}

impl std::fmt::Debug for UpstreamContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}
