//! State that the replicas of one upstream share.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    call::SessionKey,
    upstream::{
        cluster::{endpoints::EndpointHealth, leader::Leader},
        replica::{era::Findings, inbox::Inbox, subscriptions::Subscriptions},
        transport::read_budget::ReadShare,
    },
};

/// State that the replicas of one upstream share.
#[derive(Debug, Clone)]
pub struct Common {
    pub standing: Arc<EndpointHealth>,
    pub wanted: Arc<Subscriptions>,
    /// The log levels that sessions without a connection of their own want, by rank.
    pub levels: Arc<Mutex<HashMap<SessionKey, usize>>>,
    pub inbox: Arc<Inbox>,
    pub reading: Arc<ReadShare>,
    pub lead: Arc<Leader>,
    pub findings: Arc<Findings>,
    /// Clients were here that can be asked in mid-call.
    pub asked: Arc<watch::Sender<bool>>,
    /// The upstream is on its way out.
    pub retired: Arc<AtomicBool>,
}

impl Common {
    /// Whether the upstream is on its way out: nothing is opened any more.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}
