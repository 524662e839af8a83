//! Tollgate: the gate in front of every MCP server.
//!
//! The modules stand in the order of a call's way; each may name only those above it
//! (`tests/tidy.rs`).

mod mcp;
mod call;
mod config;
mod telemetry;
mod net;
pub mod process;
mod store;
mod trace;
mod audit;
mod session;
mod auth;
mod credential;
mod policy;
mod guard;
mod limit;
mod cache;
mod resilience;
mod builtin;
mod upstream;
mod catalog;
mod park;
mod snapshot;
mod pipeline;
mod ingress;
mod reload;
mod admin;
pub mod app;
pub mod cli;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
