//! What is known of a call that is traced.

use std::sync::Arc;

use crate::{
    call::{
        CallId, RoutePath, UpstreamName,
        spans::{CallSpans, EndedSpans},
    },
    mcp::{id::Id, method::Method, params::Params},
    telemetry::Outcome,
};

/// What is known of a call when it begins.
#[derive(Debug, Clone)]
pub struct CallFacts {
    pub id: Id,
    pub request: CallId,
    pub route: RoutePath,
    pub method: Method,
    pub params: Params,
    /// The version of the protocol that its client speaks.
    pub version: &'static str,
}

/// A call that has ended and is to be exported.
#[derive(Debug)]
pub struct EndedCall {
    pub spans: Arc<CallSpans>,
    pub ended: EndedSpans,
    pub outcome: Outcome,
    pub facts: CallFacts,
    /// The upstream that it was about, where that was found.
    pub upstream: Option<UpstreamName>,
}
