//! The front: Streamable HTTP of both eras on one path, at the edge where bytes become calls and
//! replies become bytes.

mod accept;
mod channel;
mod connections;
mod conversation;
pub mod decode;
mod endpoint;
mod events;
mod forwarded;
pub mod guard;
mod intake;
pub mod listen;
mod notice;
mod outgoing;
mod reply;
mod serve;
mod shared;
pub mod sse;
pub mod stdio;
mod step;
mod stream;
pub mod tls;
mod wire;
