//! The edge where bytes of clients become calls, and replies become bytes: Streamable HTTP of both
//! eras on one path, HTTP+SSE, and standard input and output.

mod accept;
mod channel;
mod connections;
mod conversation;
mod cors;
pub mod decode;
mod endpoint;
mod events;
mod forwarded;
pub mod listen;
mod notice;
pub mod origin;
mod outgoing;
mod plain;
mod reply;
mod request_body;
mod serve;
mod shared;
pub mod sse;
pub mod stdio;
mod step;
mod stream;
pub mod tls;
mod wire;
