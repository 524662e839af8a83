//! Servers behind the gate: opened, kept open, and spoken to in whichever era they speak.
//!
//! [`Clearance::send`] is the one way to a server: each way there begins with a check that the
//! clearance is for this very upstream. Which of its replicas gets a request is decided
//! in [`cluster`]; which connection it takes there (the one that all share, the client session's
//! own, or one leased from a pool) in [`connection`]. [`exchange`] is one request under way, and
//! [`transport`] carries its bytes.

mod cluster;
mod connection;
mod exchange;
mod proof;
mod replica;
mod settings;
mod transport;

#[cfg(feature = "internals")]
pub use self::transport::{multiplexed::take_lines, sse};
pub use self::{
    cluster::Upstream,
    connection::{peer::Peer, session::ListingConnection},
    exchange::{Exchange, ending::failure, error::SendError, task::TaskRef},
    proof::{Clearance, Sent},
    replica::{
        CLOSING,
        inbox::{ListChange, ServerMessage},
        openings::Openings,
        status::{ConnectionState, ReplicaStatus},
    },
    settings::{Settings, UpstreamContext},
    transport::read_budget::{ReadBudget, Reservation},
};
