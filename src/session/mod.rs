//! Sessions of legacy clients: who is talking, and what goes on in each conversation.
//!
//! A session's id is its own record, sealed ([`seal`]): a gate that was restarted, or that put the
//! session out of memory, opens the id and goes on. What cannot be carried so (open streams,
//! subscriptions) is lost with the process.

mod client_session;
pub mod outbox;
mod registry;
pub mod seal;

pub use self::{
    client_session::{Session, SessionRequest},
    registry::Sessions,
};

#[cfg(test)]
mod tests;
