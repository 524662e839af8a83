//! What was agreed with a server when a connection was opened.

use crate::mcp::{raw::Raw, version::Version};

/// What was agreed with a server.
#[derive(Debug, Clone)]
pub struct Peer {
    pub version: Version,
    /// A `ServerCapabilities` object.
    pub capabilities: Raw,
    /// An `Implementation` object.
    pub info: Option<Raw>,
    pub instructions: Option<String>,
}
