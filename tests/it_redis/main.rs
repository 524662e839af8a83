//! Limits that gates share, with a real Redis: what it lets in, and what becomes of calls when it
//! is killed, hangs, and comes back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test that starts a process"
)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` reads lighter without a borrow")]
#![allow(clippy::excessive_nesting, reason = "shared with the tests that have tables in loops")]
#![allow(dead_code, unused_imports, reason = "what is taken from tests/it can do more")]

#[path = "../it/client.rs"]
mod client;
#[path = "../it/fake/mod.rs"]
mod fake;
#[path = "../it/gate.rs"]
mod gate;
#[path = "../it/message.rs"]
mod message;

mod agree;
mod gates;
mod server;
mod tls;

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// No test waits longer than this for anything.
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
