//! An announcement to the clients of one route.

use std::sync::Arc;

use crate::{
    mcp::{method::Method, raw::Raw},
    upstream::Upstream,
};

/// An announcement on a route.
#[derive(Debug, Clone)]
pub enum Push {
    /// A list looks different to some of the route's clients.
    Changed { method: Method },
    /// A resource was updated, by the URI that clients know.
    Updated { upstream: Arc<Upstream>, uri: String, params: Raw },
}
