//! The server of operators, on a listener of its own: whether the gate lives, how it is, what it
//! counts, and forgetting results that are kept.
//!
//! Whoever reaches it may do all of this; it names upstreams and what went wrong with them, so it
//! belongs on loopback or a network of operators. It is off the way of a call: nothing here is
//! fast.

mod metrics;
mod purge;
mod reply;
mod server;

pub use self::{
    purge::{PATH as PURGE_PATH, Purge},
    server::AdminServer,
};
