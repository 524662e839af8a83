//! Whether the gate can serve now, and what of it works less well meanwhile.

use futures_util::FutureExt as _;

use crate::builtin::report::UpstreamState;

use super::{Gate, Route, Snapshot, UpstreamEntry};

/// Whether a balancer should send calls here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    /// The gate has just started, and does not know yet what its upstreams offer.
    Starting,
    /// The gate drains: no more calls are taken.
    Stopping,
    /// Every call is refused, since none can be recorded; and why.
    Unrecorded(String),
}

impl Gate {
    /// Whether it can serve now. An upstream that is down costs its own tools, and never this.
    pub fn readiness(&self) -> Readiness {
        if self.is_closing() {
            return Readiness::Stopping;
        }
        let refusing = self.audit.as_ref().filter(|audit| audit.refuses());
        if let Some(why) = refusing.and_then(|audit| audit.fault()) {
            return Readiness::Unrecorded(why);
        }
        let snapshot = self.snapshot();
        // Bounded by `settle`: a server that never answers keeps no gate from being ready.
        let settling = self.is_settling(&snapshot.config.server.limits);
        if settling && snapshot.members.iter().any(|member| !member.is_settled()) {
            return Readiness::Starting;
        }
        Readiness::Ready
    }

    /// Reasons why the gate works less well for now, each with the name of what is not well.
    pub(super) fn degradations(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut all: Vec<_> = snapshot.limits.degraded().into_iter().collect();
        let fault = self.names.fault();
        all.extend(fault.map(|fault| format!("names cannot be recorded: {fault}")));
        let fault = self.audit.as_ref().and_then(|audit| audit.fault());
        all.extend(fault.map(|fault| format!("calls cannot be recorded: {fault}")));
        let away = snapshot.authorities.faults().into_iter();
        all.extend(away.map(|(name, why)| {
            format!("auth `{name}`: its issuer is away, and logins may fail: {why}")
        }));
        for member in &snapshot.members {
            let troubles = member.catalog.troubles().into_iter();
            let name = member.upstream.name();
            all.extend(troubles.map(|(list, why)| format!("upstream `{name}`: `{list}`: {why}")));
        }
        all.extend(self.certificates.troubles(&snapshot.config));
        all.extend(snapshot.trials_rolled_back());
        let routes = snapshot.config.routes.iter();
        let routes = routes.filter_map(|route| snapshot.routes.get(&route.path));
        let cut_off = routes.filter(|route| !route.is_served());
        all.extend(cut_off.map(|route| {
            format!("route `{}`: none of its upstreams is ready", route.settings.path)
        }));
        all
    }
}

impl Route {
    /// Whether one of its upstreams is ready, or is opened by its first call; a route without any
    /// has none to miss.
    fn is_served(&self) -> bool {
        let is_ready = |member: &UpstreamEntry| {
            matches!(member.state(), UpstreamState::Ready | UpstreamState::Idle)
        };
        self.members.is_empty() || self.members.iter().any(is_ready)
    }
}

impl UpstreamEntry {
    /// Whether it was opened and its lists were read, or could not be, once.
    fn is_settled(&self) -> bool {
        self.settled().now_or_never().is_some()
    }
}
