//! The context that all authorities share, and how far a credential may be followed.

use std::sync::Arc;

use crate::{call::tasks::Tasks, net::Net, telemetry::Counters};

use super::logins::Logins;

/// Network, tasks and counters that the authorities of all routes share.
#[derive(Debug, Clone)]
pub struct AuthContext {
    pub net: Net,
    pub tasks: Tasks,
    pub counters: Arc<Counters>,
}

/// How far a credential may be followed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reach<'a> {
    /// Issuers are asked.
    Anywhere,
    /// Checks credentials only here, by keys that are known already; an issuer is asked only about
    /// a token that was good before.
    Here(&'a Logins),
}
