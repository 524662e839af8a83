//! Connections that wait for a request to their server.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{http1::Connection, reuse::Reuse};

/// Idle connections are given up a little before common servers do (Node and uvicorn: 5 s): a
/// request that meets the end of its connection is lost, and nobody knows what became of it.
pub const POOL_IDLE: Duration = Duration::from_secs(4);

/// The connections to one server that nobody uses now.
#[derive(Debug)]
pub struct IdleConnections {
    reuse: Arc<Reuse>,
    state: Mutex<IdleState>,
}

#[derive(Debug, Default)]
struct IdleState {
    /// The one that was used last is at the end: the others come of age.
    connections: Vec<IdleConnection>,
    /// Whether a task is about that closes what is idle for too long.
    is_swept: bool,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Box<Connection>,
    since: Instant,
}

impl IdleConnections {
    /// What is found out about the server is noted in `reuse`.
    pub fn new(reuse: Arc<Reuse>) -> Arc<Self> {
        Arc::new(Self { reuse, state: Mutex::default() })
    }

    /// Takes the connection that was used last and is still good. A server that has closed one soon
    /// after its answer does so with all, and a request might meet the end of the next.
    pub fn take(&self) -> Option<Box<Connection>> {
        loop {
            let IdleConnection { connection, since } = self.state.lock().connections.pop()?;
            let idle = since.elapsed();
            if idle < POOL_IDLE && connection.is_idle() {
                return Some(connection);
            }
            if idle < Reuse::CLOSED_AFTER_ANSWER {
                self.reuse.distrust();
            }
        }
    }

    /// Keeps a connection for the next request.
    pub fn put(self: &Arc<Self>, connection: Box<Connection>) {
        let since = Instant::now();
        let mut state = self.state.lock();
        state.connections.push(IdleConnection { connection, since });
        if std::mem::replace(&mut state.is_swept, true) {
            return;
        }
        drop(state);
        match tokio::runtime::Handle::try_current() {
            Ok(_here) => TokioExecutor::new().execute(sweep(Arc::downgrade(self))),
            // Dropped where nothing can be spawned: nobody would close it.
            Err(_) => *self.state.lock() = IdleState::default(),
        }
    }
}

/// Closes connections that are idle for too long, or whose server has closed them, until there are
/// none.
async fn sweep(idle: Weak<IdleConnections>) {
    loop {
        tokio::time::sleep(POOL_IDLE).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut state = idle.state.lock();
        state
            .connections
            .retain(|idle| idle.since.elapsed() < POOL_IDLE && idle.connection.is_idle());
        if state.connections.is_empty() {
            state.is_swept = false;
            return;
        }
    }
}
