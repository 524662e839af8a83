//! The log messages that a server is to send (legacy): each session's own wish on its own
//! connection, the most that any session wants on one that all share.

use std::sync::Arc;

use crate::{
    call::SessionKey,
    mcp::{
        level::{self, LEVELS},
        method::Method,
        raw::Raw,
        splice,
        version::Era,
    },
    upstream::{
        connection::open::Connection,
        exchange::error::SendError,
        replica::{Replica, phase::Phase},
    },
};

impl Replica {
    /// Tells the server the level that a legacy client wants, on its own connection if it has one,
    /// else the lowest that any client wants on the shared one.
    pub async fn tell_level_of(&self, key: SessionKey, level: &str) {
        let own = self.own.lock().get(&key).map(Arc::clone);
        if let Some(own) = &own {
            *own.level.lock() = Some(level.to_owned());
        }
        let own = own.and_then(|own| own.connection.get().cloned());
        let told = match own {
            Some(connection) => tell_level(&connection, level).await,
            None => {
                if let Some(rank) = level::rank(level) {
                    self.common.levels.lock().insert(key, rank);
                }
                let Phase::Ready(shared) = self.phase.borrow().clone() else { return };
                self.tell_lowest(&shared).await
            }
        };
        if let Err(error) = told {
            tracing::debug!(upstream = self.name(), %error, "a log level was not taken");
        }
    }

    /// # Errors
    /// Where the server does not answer.
    pub async fn tell_lowest(&self, shared: &Connection) -> Result<(), SendError> {
        let lowest = self.common.levels.lock().values().min().copied();
        match lowest.and_then(|rank| LEVELS.get(rank)) {
            Some(level) => tell_level(shared, level).await,
            None => Ok(()),
        }
    }
}

/// A server without the capability is told nothing.
///
/// # Errors
/// Where the server does not answer.
pub async fn tell_level(connection: &Connection, level: &str) -> Result<(), SendError> {
    let legacy = connection.peer.version.era() == Era::Legacy;
    if !legacy || splice::member(&connection.peer.capabilities, "logging").is_none() {
        return Ok(());
    }
    let params = Raw::encode(&serde_json::json!({ "level": level }));
    connection.ask(Method::SetLevel, &params, None).await?.answer().await.map(drop)
}
