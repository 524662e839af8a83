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
mod pipe;
mod transcript;

mod admin;
mod auth;
mod bad_input;
mod bridge;
mod cache;
mod cancel;
mod careers;
mod catalog;
mod channel;
mod control;
mod credential;
mod errors;
mod events;
mod fidelity;
mod guard;
mod headers;
mod isolation;
mod legacy;
mod limit;
mod matrix;
mod migration;
mod modern;
mod older;
mod policy;
mod reload;
mod replicas;
mod resilience;
mod session;
mod sse;
mod stdio;
mod stream;
mod tasks;
mod vault;
mod wire;

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// No test waits longer than this for anything; a loaded machine may need most of it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `found` gives something.
#[track_caller]
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    let what = format!("{place}: waited in vain until {what}");
    async move {
        let found = async {
            loop {
                match found() {
                    Some(found) => return found,
                    None => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout(PATIENCE, found).await.expect(&what)
    }
}

/// Waits for one thing to happen.
#[track_caller]
pub fn soon<T>(what: &str, event: impl Future<Output = T>) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    let what = format!("{place}: waited in vain for {what}");
    async move { timeout(PATIENCE, event).await.expect(&what) }
}
