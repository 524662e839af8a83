//! What tests that start processes wait for.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::disallowed_methods, reason = "a test that looks at processes")]

use std::{fs, thread, time::Duration};

use rustix::process::Pid;

/// Waits until `done` says so; only a defect makes it give up, after half a minute. Other processes
/// give no sign to wait on.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let come = (0..6000).any(|_| {
        let done = done();
        if !done {
            thread::sleep(Duration::from_millis(5));
        }
        done
    });
    assert!(come, "waited for {what}");
}

/// Dead; reaping an orphan is somebody else's business.
pub fn is_dead(id: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.as_raw_pid()));
    stat.map_or(true, |stat| stat.contains(") Z "))
}
