//! The names of members that somebody asks for.

use crate::mcp::meta::{
    CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PROGRESS_TOKEN, PROTOCOL_VERSION, SUBSCRIPTION_ID,
    TRACE_PARENT,
};

/// Members of a message. A second one of these names is refused, in whatever case it is written:
/// two parsers that disagree on which one counts are a way around every policy.
pub const ENVELOPE: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

/// Members of a request's params, by the names of [`PARAMS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    Name,
    Uri,
    TaskId,
    Reference,
    Meta,
    Arguments,
    RequestState,
    InputResponses,
    Argument,
    Context,
    Task,
}

/// In the order of [`Param`]. A server may take these for more than data: a second member of one of
/// these names is refused, in whatever case it is written.
pub const PARAMS: [&str; 11] = [
    "name",
    "uri",
    "taskId",
    "ref",
    "_meta",
    "arguments",
    "requestState",
    "inputResponses",
    "argument",
    "context",
    "task",
];

/// Members of `_meta` of a request, by the names of [`META`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaMember {
    ProtocolVersion,
    ClientCapabilities,
    ClientInfo,
    LogLevel,
    SubscriptionId,
    ProgressToken,
    TraceParent,
}

/// In the order of [`MetaMember`].
pub(super) const META: [&str; 7] = [
    PROTOCOL_VERSION,
    CLIENT_CAPABILITIES,
    CLIENT_INFO,
    LOG_LEVEL,
    SUBSCRIPTION_ID,
    PROGRESS_TOKEN,
    TRACE_PARENT,
];

impl MetaMember {
    pub fn name(self) -> &'static str {
        META.get(self as usize).expect("a name for every member: names_are_in_order")
    }
}

/// Members of a result, by the names of [`RESULT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultMember {
    ResultType,
    IsError,
    TaskId,
    CacheScope,
}

/// In the order of [`ResultMember`].
pub(super) const RESULT: [&str; 4] = ["resultType", "isError", "taskId", "cacheScope"];

impl ResultMember {
    pub fn name(self) -> &'static str {
        RESULT.get(self as usize).expect("a name for every member: names_are_in_order")
    }
}

impl Param {
    pub fn name(self) -> &'static str {
        PARAMS.get(self as usize).expect("a name for every member: names_are_in_order")
    }
}
