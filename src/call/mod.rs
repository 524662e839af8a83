//! The words of one call: who asks, what is listed, what happens on the way back, and the clock.

mod caller;
mod client;
pub mod clock;
pub mod event;
pub mod hashed;
mod identity;
mod kind;
pub mod machine;
mod names;
pub mod presence;
mod request;
pub mod spans;
pub mod tasks;
mod trace;
mod trace_context;
pub mod usage;

pub use self::{
    caller::{Caller, SessionKey},
    client::{Client, gateway_info},
    identity::{Identity, Token},
    kind::{Action, ListKind, ObjectKind},
    names::{ReplicaId, ReplicaIndex, RoutePath, UpstreamName},
    request::{Subject, UpstreamRequest},
    trace::{CallId, SpanId, TraceId, TraceParent},
    trace_context::{Arrival, TraceContext},
};
