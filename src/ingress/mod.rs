//! The front: Streamable HTTP of both eras on one path, at the edge where bytes become calls and
//! replies become bytes.

mod decode;
mod guard;
pub mod listen;
mod reply;
mod serve;
mod sse;
mod stream;
