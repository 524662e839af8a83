//! The connections that are open: how many there may be, of one address too, which of them make
//! room, and which are ended because nothing goes on in them.
//!
//! Time is counted in sweeps here: a request that begins or ends reads no clock.

mod connection;
mod table;

pub use self::{
    connection::{ActiveRequest, ClientConnection},
    table::{ConnectionBounds, ConnectionRefusal, ConnectionSlot, Connections},
};
