//! Calls that take long: as tasks of the gate, and as tasks that servers give.

pub mod gateway;
pub mod poll;
pub mod server;
