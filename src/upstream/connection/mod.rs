//! Connections with one server: agreed on in its era, shared by all, one session's own, or leased.

pub mod attention;
pub mod callers;
pub mod channel;
pub mod error;
pub mod handshake;
pub mod listing;
pub mod open;
pub mod outgoing_trace;
pub mod owner;
pub mod peer;
pub mod pool;
pub mod select;
pub mod session;
pub mod undeclared;
pub mod vary;
