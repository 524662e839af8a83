//! The server of operators, on a listener of its own: whether the gate lives, how it is, what it
//! counts, an API that programs read, and forgetting results that are kept.
//!
//! Whoever reaches it may do all of this, but for the API, which is for this machine. It names
//! upstreams and what went wrong with them, so it belongs on loopback or a network of operators. It
//! is off the way of a call: nothing here is fast.

mod api;
mod health;
mod metrics;
mod purge;
mod reply;
mod server;

pub use self::{
    purge::{PATH as PURGE_PATH, Purge},
    server::AdminServer,
};
