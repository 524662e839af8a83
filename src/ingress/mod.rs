//! The front: Streamable HTTP of both eras on one path, at the edge where bytes become calls and
//! replies become bytes.

mod channel;
pub mod decode;
mod events;
pub mod guard;
pub mod listen;
mod notice;
mod reply;
mod serve;
pub mod sse;
pub mod stdio;
mod step;
mod stream;
pub mod tls;
