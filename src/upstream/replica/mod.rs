//! A replica of an upstream: one server, kept open, and asked on whichever connection is fit.

pub mod backoff;
mod close;
pub mod common;
mod dispatch;
pub mod era;
pub mod inbox;
pub mod log_level;
pub mod open;
pub mod openings;
pub mod phase;
pub mod status;
pub mod subscriptions;
pub mod supervise;
pub mod times;

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch as phases},
    time::Instant,
};

use crate::{
    call::{ReplicaIndex, SessionKey, tasks::Tasks},
    config::{self, HttpTransport, Transport},
    credential::Credential,
    mcp::version::Era,
    net::Net,
    upstream::{
        connection::{
            attention::Lingering, callers::CallerSessions, pool::ConnectionPool,
            session::SessionConnection,
        },
        replica::{backoff::Underway, common::Common, era::Knowledge, phase::Phase, status::Tally},
        settings::{Settings, UpstreamContext},
    },
};

/// The reason that a server is given where the gate ends a connection by itself.
pub const CLOSING: &str = "the gate closes it";

/// A server: an upstream itself, or one of several that are the same.
pub struct Replica {
    pub settings: Settings,
    pub context: Arc<UpstreamContext>,
    pub phase: phases::Sender<Phase>,
    pub own: Mutex<HashMap<SessionKey, Arc<SessionConnection>>>,
    pub pool: Arc<ConnectionPool>,
    pub callers: CallerSessions,
    pub credential: Option<Credential>,
    /// How it is dialled over HTTP, or what is wrong with that.
    pub net: Result<Net, String>,
    /// The era that it speaks, as far as that is known.
    pub knowledge: Knowledge,
    /// Whether HTTP+SSE is spoken: by configuration, or as found last time.
    pub sse: AtomicBool,
    /// Whether it is modern and refused `initialize`.
    pub refuses_legacy: AtomicBool,
    pub common: Common,
    /// A call wants it that is not open.
    pub wake: Notify,
    /// The earliest time that it is opened again.
    pub soonest: Mutex<Instant>,
    pub tally: Tally,
    /// Streams of sessions' own connections that nobody is known to need.
    pub lingering: Arc<Lingering>,
    /// The count of exchanges under way, by its clones.
    pub underway: Arc<Underway>,
    /// Index among the upstream's replicas.
    pub place: ReplicaIndex,
    pub tasks: Tasks,
}

impl Replica {
    pub fn new(
        settings: Settings,
        context: &Arc<UpstreamContext>,
        place: ReplicaIndex,
        common: Common,
    ) -> Arc<Self> {
        let pooled = match settings.config.transport {
            Transport::Http { .. } => settings.config.sessions_max,
            // A place is the shared process's own.
            Transport::Stdio { .. } | Transport::Builtin { .. } => {
                settings.config.processes_max.saturating_sub(1)
            }
        };
        let tasks = context.tasks.child();
        let net = match &settings.config.transport {
            Transport::Http { dial, .. } => context.net.of_upstream(dial, &config::environment),
            Transport::Stdio { .. } | Transport::Builtin { .. } => Ok(context.net.clone()),
        };
        Arc::new(Self {
            net,
            context: Arc::clone(context),
            phase: phases::Sender::new(Phase::Idle),
            own: Mutex::default(),
            pool: ConnectionPool::new(pooled, tasks.clone()),
            callers: CallerSessions::new(
                &settings.config.name,
                settings.config.caller_sessions_max,
                &context.counters,
                &tasks,
            ),
            credential: Credential::of(&settings.config, &context.net, &context.counters, &tasks),
            knowledge: Knowledge::new(&settings.config, &common.findings),
            sse: AtomicBool::new(settings.config.transport.over_http() == Some(HttpTransport::Sse)),
            refuses_legacy: AtomicBool::new(settings.config.era == Some(Era::Modern)),
            common,
            place,
            wake: Notify::new(),
            soonest: Mutex::new(Instant::now()),
            tally: Tally::default(),
            lingering: Arc::default(),
            underway: Arc::default(),
            tasks,
            settings,
        })
    }

    pub fn name(&self) -> &str {
        &self.settings.config.name
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("name", &self.name()).finish_non_exhaustive()
    }
}
