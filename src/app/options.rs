//! The options that a gate is started with.

use std::{net::SocketAddr, path::PathBuf};

use crate::{config::Layers, net::vault::VaultAccess};

/// The file, what the command line says besides, and what the gate may do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Empty: there is no file, and `layers` are all there is.
    pub config: PathBuf,
    /// Keys that the command line sets over the file, and defaults that it sets under it.
    pub layers: Layers,
    /// The address to listen on in place of the file's `listen`.
    pub listen: Option<SocketAddr>,
    /// Whether edits of the file are applied.
    pub watch: bool,
    /// Tollgate's own binary, through which children are started; without it they are started
    /// directly, and outlive a gate that is killed outright.
    pub launcher: Option<PathBuf>,
    /// Whether children inherit the whole environment, not only what every program needs.
    pub whole_environment: bool,
    /// Whether [`super::serve`] takes the listening socket over from the gate that runs on the same
    /// state folder; only a build with the feature `pingora` can.
    pub upgrade: bool,
    /// The Vault that has the `vault:` secrets; without it as the environment says.
    pub vault: Option<VaultAccess>,
}
