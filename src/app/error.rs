//! Why a gate does not start.

use std::{net::SocketAddr, path::PathBuf};

use crate::{audit, call::RoutePath, config::Problems, session::seal::Sealer};

/// Why a gate did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(Problems),
    #[error("the state folder {folder}: {error}", folder = .folder.display())]
    State { folder: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Audit(#[from] audit::AuditOpenError),
    #[error("`session_key` has fewer than {} bytes", Sealer::SECRET_BYTES_MIN)]
    Key,
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error(
        "everybody who reaches {address} could use `{route}`: give it `auth`, or say that it is \
         meant so: auth = \"none\""
    )]
    Open { address: SocketAddr, route: RoutePath },
    #[error("{0}")]
    Tls(String),
    #[error("the configuration has no route `{route}`; it has {known}")]
    Route { route: String, known: String },
    /// The one server that all is about.
    #[error("the server cannot be opened: {0}")]
    Server(String),
    #[error("the ledger of names cannot be changed: {0}")]
    Names(std::io::Error),
    #[error("cannot take over from the gate that runs: {0}")]
    Upgrade(String),
    #[error("the system gives no thread or no signal: {0}")]
    Process(#[from] std::io::Error),
}
