//! The front: Streamable HTTP of both eras on one path, at the edge where bytes become calls and
//! replies become bytes.

pub mod decode;
mod guard;
pub mod listen;
mod reply;
mod serve;
pub mod sse;
mod stream;
