//! Successors of upstreams: who is on trial, who is only compared, and which tools they have.

use std::{collections::HashMap, sync::Arc};

use tokio::sync::Semaphore;

use crate::{
    call::UpstreamName,
    config::{self, Config},
    mcp::mirror::Mirrors,
    policy::Succession,
    resilience::canary::CanaryState,
    upstream::Upstream,
};

use super::UpstreamEntry;

/// Upstreams that take over from one.
#[derive(Debug)]
pub struct Migration {
    pub canary: Option<ActiveCanary>,
    pub shadow: Option<ActiveShadow>,
}

/// A successor that gets some callers' calls.
#[derive(Debug)]
pub struct ActiveCanary {
    /// Lives for as long as its section is the same.
    pub state: Arc<CanaryState>,
    pub successor: ActiveSuccessor,
}

/// A successor whose answers are only compared.
#[derive(Debug)]
pub struct ActiveShadow {
    pub settings: config::Shadow,
    /// The places for calls under way there.
    pub places: Arc<Semaphore>,
    pub successor: ActiveSuccessor,
}

#[derive(Debug)]
pub struct ActiveSuccessor {
    pub succession: Succession<Upstream>,
    tools: HashMap<String, Mirrors>,
}

/// Builds the migrations of a configuration.
pub fn build(
    config: &Config,
    members: &[UpstreamEntry],
    earlier: &HashMap<UpstreamName, Arc<Migration>>,
) -> HashMap<UpstreamName, Arc<Migration>> {
    let each = config.upstreams.iter().filter_map(|upstream| {
        let before = earlier.get(&upstream.name);
        let canary = upstream
            .canary
            .as_ref()
            .and_then(|it| ActiveCanary::build(it, upstream, members, before));
        let shadow = upstream
            .shadow
            .as_ref()
            .and_then(|it| ActiveShadow::build(it, upstream, members, before));
        let none = canary.is_none() && shadow.is_none();
        (!none).then(|| (upstream.name.clone(), Arc::new(Migration { canary, shadow })))
    });
    each.collect()
}

impl ActiveCanary {
    fn build(
        settings: &config::Canary,
        section: &config::Upstream,
        members: &[UpstreamEntry],
        before: Option<&Arc<Migration>>,
    ) -> Option<Self> {
        let successor = ActiveSuccessor::find(&settings.upstream, section, members)?;
        let before = before.and_then(|before| before.canary.as_ref());
        let same = before.filter(|before| before.state.settings == *settings);
        let trial = same.map(|same| Arc::clone(&same.state));
        let trial = trial.unwrap_or_else(|| Arc::new(CanaryState::new(settings.clone())));
        Some(Self { state: trial, successor })
    }
}

impl ActiveShadow {
    fn build(
        settings: &config::Shadow,
        section: &config::Upstream,
        members: &[UpstreamEntry],
        before: Option<&Arc<Migration>>,
    ) -> Option<Self> {
        let successor = ActiveSuccessor::find(&settings.upstream, section, members)?;
        let before = before.and_then(|before| before.shadow.as_ref());
        let same = before.filter(|before| before.settings.in_flight_max == settings.in_flight_max);
        let places = same.map(|same| Arc::clone(&same.places));
        let places = places.unwrap_or_else(|| Arc::new(Semaphore::new(settings.in_flight_max)));
        Some(Self { settings: settings.clone(), places, successor })
    }
}

impl ActiveSuccessor {
    fn find(name: &str, section: &config::Upstream, members: &[UpstreamEntry]) -> Option<Self> {
        let member = members.iter().find(|member| member.upstream.name() == name)?;
        let listing = member.catalog.listing();
        let tools = listing.iter().flat_map(|listing| &listing.tools);
        let tools = tools.map(|item| (item.key.clone(), item.mirrors.clone())).collect();
        let succession = Succession::new(section, &member.upstream)?;
        Some(Self { succession, tools })
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        self.succession.successor()
    }

    /// Returns the arguments of this tool that go into headers; none where it has no such tool.
    pub fn tool(&self, own: &str) -> Option<&Mirrors> {
        self.tools.get(own)
    }
}
