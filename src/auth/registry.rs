//! All authorities of a configuration, by their names.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config::{self, Config},
    telemetry::Counters,
};

use super::{authority::Authority, context::AuthContext, logins::Logins, route_auth::RouteAuth};

/// All authorities of a configuration, by their names. Cloned, they are the same.
#[derive(Debug, Clone, Default)]
pub struct AuthorityRegistry {
    all: BTreeMap<String, Arc<Authority>>,
    logins: Option<Arc<Logins>>,
}

impl AuthorityRegistry {
    /// Builds the authorities of a configuration; where a section is as it was, so is its
    /// authority, with the keys and the tokens it knows.
    pub fn build(config: &Config, before: &Self, means: &AuthContext) -> Self {
        let each = config.auth.iter().map(|settings| {
            let kept = before.all.get(&settings.name).filter(|kept| kept.settings == *settings);
            let built = || {
                let authority = Arc::new(Authority::new(settings.clone(), means));
                authority.begin();
                authority
            };
            let authority = kept.map_or_else(built, Arc::clone);
            (settings.name.clone(), authority)
        });
        let limits = &config.server.limits;
        let kept = before.logins.as_ref().filter(|kept| kept.is_of(limits));
        let logins =
            kept.map_or_else(|| Arc::new(Logins::new(limits, &means.counters)), Arc::clone);
        Self { all: each.collect(), logins: Some(logins) }
    }

    /// Names each authority whose issuer could not be asked the last time, and why.
    pub fn faults(&self) -> Vec<(String, String)> {
        let each = self.all.iter();
        each.filter_map(|(name, authority)| Some((name.clone(), authority.fault()?))).collect()
    }

    /// Makes the login check of this route.
    pub fn route_auth(&self, route: &config::Route, counters: &Arc<Counters>) -> RouteAuth {
        let named = route.auth.iter().filter_map(|name| self.all.get(name));
        RouteAuth::new(named.cloned().collect(), route, self.logins.clone(), counters)
    }
}
