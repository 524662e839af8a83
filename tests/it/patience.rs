//! Waiting for what comes by itself, and not for ever.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// No test waits longer than this for anything; a loaded machine may need most of it.
pub const PATIENCE: Duration = Duration::from_secs(30);

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

#[allow(clippy::disallowed_methods, reason = "a test kills from outside, as an operator would")]
pub fn kill(pid: i32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
