//! The whole gateway in process between fake upstreams and a raw client: what users and servers see
//! of it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` reads lighter without a borrow")]
#![allow(clippy::excessive_nesting, reason = "tables in loops over eras and kinds of upstream")]

mod client;
mod fake;
mod fakes;
mod gate;
mod message;
mod patience;
mod pipe;
mod tolerance;
mod transcript;

mod access;
mod admin;
mod answers;
mod api;
mod asked;
mod audit;
mod auth;
mod bad_input;
mod bridge;
mod cache;
mod cancel;
mod caller_sessions;
mod careers;
mod catalog;
mod channel;
mod control;
mod context;
mod credential;
mod dial;
mod edge;
mod elsewhere;
mod era;
mod errors;
mod events;
mod exposition;
mod fidelity;
mod guard;
mod headers;
mod isolation;
mod large;
mod leaks;
mod legacy;
mod lenient;
mod limit;
mod lists;
mod log;
mod matrix;
mod metrics;
mod migration;
mod misbehaviours;
mod modern;
mod names;
mod noise;
mod older;
mod openings;
mod origins;
mod policy;
mod prometheus;
mod readiness;
mod reasons;
mod reload;
mod replicas;
mod resilience;
mod session;
mod sse;
mod stdio;
mod stdio_bounds;
mod stream;
mod tasks;
mod tenants;
mod traces;
mod uris;
mod vault;
mod views;
mod way_back;
mod wire;

pub use self::patience::{PATIENCE, eventually, kill, soon};
