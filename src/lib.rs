//! Tollgate: the gate in front of every MCP server.
//!
//! The modules stand in the order of a call's way; each may name only those above it
//! (`tests/tidy.rs`).

mod mcp;
mod call;
mod config;
mod net;
mod store;
mod telemetry;
mod session;
mod auth;
mod policy;
mod limit;
mod cache;
mod kit;
pub mod upstream;
mod catalog;
mod park;
mod snapshot;
mod pipeline;
mod ingress;
mod reload;
mod admin;
pub mod app;
pub mod cli;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
