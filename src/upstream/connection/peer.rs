//! The result of agreeing with a server when a connection was opened.

use crate::mcp::{raw::Raw, version::Version};

/// The server's side of what was agreed.
#[derive(Debug, Clone)]
pub struct Peer {
    pub version: Version,
    /// A `ServerCapabilities` object.
    pub capabilities: Raw,
    /// An `Implementation` object.
    pub info: Option<Raw>,
    pub instructions: Option<String>,
}
