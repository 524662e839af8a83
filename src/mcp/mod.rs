//! JSON-RPC and MCP messages as values: parsed once, kept as the very bytes received, no I/O.
//!
//! [`message::Message`] is an envelope whose parts are slices of the body it came in; [`raw::Raw`]
//! is one such slice; [`splice`] changes members of an object and leaves every other byte alone.

pub mod canonical;
pub mod digest;
pub mod document;
pub mod error;
pub mod target;
pub mod header;
pub mod id;
pub mod index;
pub mod unique_members;
pub mod lenient;
pub mod level;
pub mod message;
pub mod meta;
pub mod method;
pub mod mirror;
pub mod params;
pub mod compat;
pub mod question;
pub mod raw;
pub mod result;
pub mod splice;
pub mod uri;
mod uri_parts;
pub mod version;
pub mod word;
