//! Answers on their way to clients: a large one is handed over piece by piece, and counts within
//! [`budget`] until its client has taken it; a stream of HTTP/2 that takes nothing is reset
//! ([`stall`]).

pub mod body;
pub mod budget;
pub mod stall;
