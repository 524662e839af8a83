//! Breakers, retries and times of tools: right and wrong ones.

use std::time::Duration;

use super::{of_upstream, told, upstream};
use crate::config::{Breaker, Cause, Sliding, ToolTimeout};

/// The keys of one upstream, over HTTP.
fn keys(keys: &str) -> String {
    of_upstream(&format!("url = \"http://a/\"\n{keys}\n"))
}

#[test]
fn what_a_file_says_of_resilience4j_can_be_said_here() {
    let jobs = upstream(
        "url = \"http://a/\"\ntimeout = { open = \"2s\", idle = \"5s\" }\n\
         breaker = { failure_rate = 0.5, window = 10, open = \"30s\", probes = 5 }\n\
         retry = { attempts = 3, backoff = \"200ms\", on = [\"transport\"] }\n",
    );
    let breaker = jobs.breaker.expect("a breaker");
    assert_eq!((breaker.window, breaker.calls_min), (Sliding::Calls(10), 10));
    assert!(breaker.failure_rate.is_reached(5, 10) && !breaker.failure_rate.is_reached(4, 10));
    assert_eq!((breaker.open, breaker.probes), (Duration::from_secs(30), 5));
    let retry = jobs.retry.expect("retries");
    assert_eq!((retry.attempts, retry.backoff), (3, Duration::from_millis(200)));
    assert_eq!(retry.on, [Cause::Transport]);
}

#[test]
fn without_a_word_there_is_a_breaker_and_no_retry() {
    let plain = upstream("url = \"http://a/\"\ntools.x.timeout.total = \"1s\"\n");
    assert_eq!((plain.breaker, plain.retry), (Some(Breaker::default()), None));
    let tool = &plain.tool_settings["x"];
    let total = Some(Duration::from_secs(1));
    assert_eq!((&tool.breaker, tool.timeout), (&None, ToolTimeout { idle: None, total }));
    let said = upstream("url = \"http://a/\"\nbreaker = {}\ntools.x.breaker = {}\n");
    assert_eq!(said.breaker, Some(Breaker::default()), "the defaults are the same");
    assert_eq!(said.tool_settings["x"].breaker, Some(Breaker::default()));
    let off = upstream("url = \"http://a/\"\nbreaker.enabled = false\n");
    assert_eq!(off.breaker, None);
    let timed = upstream("url = \"http://a/\"\nbreaker.window = \"1m\"\n").breaker.expect("one");
    assert_eq!((timed.window, timed.calls_min), (Sliding::Time(Duration::from_secs(60)), 100));
}

#[test]
fn what_can_never_be_meant_is_told() {
    told(
        &keys("breaker = { window = 10, calls_min = 11 }"),
        &["error: this breaker never opens", "make `calls_min` smaller"],
    );
    told(&keys("breaker.failure_rate = 0"), &["error: `failure_rate` 0 opens the breaker"]);
    told(&keys("breaker.failure_rate = 50"), &["error: this share is not between 0 and 1"]);
    told(&keys("breaker.failure_rate = \"50%\""), &["error: expected a share, found a text"]);
    told(&keys("breaker.slow_rate = 0.5"), &["error: `slow_rate` means nothing without `slow`"]);
    told(&keys("breaker.window = \"10ms\""), &["error: this duration is not between"]);
    told(&keys("breaker.counts = []"), &["error: this breaker counts nothing as a failure"]);
    told(
        &keys("breaker.counts = [\"5x\"]"),
        &["error: `5x` is not a word known here", "did you mean `5xx`?"],
    );
    told(
        &keys("retry = { backoff = \"9s\" }"),
        &["error: `backoff` is 9s, but `backoff_max` is 5s"],
    );
    told(&keys("retry.on = []"), &["error: nothing is tried again so"]);
    told(
        &keys("tools.x.timeout = { idle = \"2s\", total = \"1s\" }"),
        &["error: `idle` is 2s, but `total` is 1s"],
    );
    told(&keys("tools.x.timeout.open = \"2s\""), &["error: unknown key `open`"]);
}
