//! How far the connection is that all share.

use std::sync::Arc;

use crate::upstream::{
    connection::{open::Connection, peer::Peer},
    exchange::error::SendError,
};

/// The connection that all share.
#[derive(Debug, Clone)]
pub enum Phase {
    Idle,
    Opening,
    Ready(Connection),
    /// The upstream could not be opened, with what a call that wants it is told.
    Failed(SendError),
}

impl Phase {
    /// Returns what was agreed with the server; none while the connection is not open.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        match self {
            Self::Ready(connection) => Some(Arc::clone(&connection.peer)),
            Self::Idle | Self::Opening | Self::Failed(_) => None,
        }
    }

    /// Whether an opening has succeeded or failed.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Ready(_) | Self::Failed(_))
    }
}
