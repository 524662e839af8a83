//! Whether a request is sent again, and when: exponential waits with full jitter ("Exponential
//! Backoff And Jitter", M. Brooker, AWS 2015) within a budget.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::{self, Cause};

use super::budget::RetryBudget;

/// The retries of one upstream.
#[derive(Debug)]
pub struct Retry {
    settings: config::Retry,
    budget: Mutex<RetryBudget>,
    /// The moment where the budget's time begins.
    epoch: Instant,
}

/// How a request failed, and what of it matters for another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedAttempt {
    pub cause: Cause,
    /// How long the server asks to be left alone (`Retry-After`).
    pub wait: Option<Duration>,
}

/// Decision on a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// The request is sent again after this long.
    After(Duration),
    /// The request may be repeated, but the budget is used up.
    BudgetSpent,
    Never,
}

impl Retry {
    pub fn new(settings: config::Retry) -> Self {
        let budget = Mutex::new(RetryBudget::new(settings.budget, settings.budget_min));
        Self { settings, budget, epoch: Instant::now() }
    }

    pub fn is(&self, settings: &config::Retry) -> bool {
        self.settings == *settings
    }

    /// Counts a request that is sent for the first time.
    pub fn count_request(&self) {
        let now = self.epoch.elapsed();
        self.budget.lock().request(now);
    }

    /// Returns how many retries the budget has left.
    pub fn left(&self) -> u64 {
        self.budget.lock().left(self.epoch.elapsed())
    }

    /// Decides on a request that was sent `attempts` times and has `left` to be answered.
    pub fn decide(&self, trouble: FailedAttempt, attempts: u32, left: Duration) -> RetryDecision {
        let Some(wait) = wait(&self.settings, trouble, attempts, rand::random()) else {
            return RetryDecision::Never;
        };
        if left <= wait {
            return RetryDecision::Never;
        }
        let now = self.epoch.elapsed();
        if self.budget.lock().retry(now) {
            RetryDecision::After(wait)
        } else {
            RetryDecision::BudgetSpent
        }
    }
}

/// How long to wait after so many attempts, with a `jitter` from 0 to 1; none where that were the
/// last.
fn wait(
    settings: &config::Retry,
    trouble: FailedAttempt,
    attempts: u32,
    jitter: f64,
) -> Option<Duration> {
    if settings.attempts <= attempts || !settings.on.contains(&trouble.cause) {
        return None;
    }
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
    let most = settings.backoff.saturating_mul(doubled).min(settings.backoff_max);
    // All that were told the same time do not come at once.
    Some(trouble.wait.unwrap_or_default().saturating_add(most.mul_f64(jitter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(keys: &str) -> config::Retry {
        let toml = format!(
            "[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\nurl = \"http://a/\"\nretry = \
             {{ {keys} }}\n"
        );
        let config = config::parse("routes.toml", &toml, &|_| None).expect("a right file");
        config.upstreams[0].retry.clone().expect("retries")
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_anything_below() {
        let settings = settings("attempts = 5, backoff = \"200ms\", backoff_max = \"500ms\"");
        let lost = FailedAttempt { cause: Cause::Transport, wait: None };
        let waits: Vec<_> = (1..6)
            .map(|attempts| wait(&settings, lost, attempts, 1.0).map(|wait| wait.as_millis()))
            .collect();
        assert_eq!(waits, [Some(200), Some(400), Some(500), Some(500), None]);
        assert_eq!(wait(&settings, lost, 1, 0.25), Some(Duration::from_millis(50)));
        let told =
            FailedAttempt { cause: Cause::TooManyRequests, wait: Some(Duration::from_secs(3)) };
        assert_eq!(wait(&settings, told, 1, 0.5), Some(Duration::from_millis(3_100)));
        let late = FailedAttempt { cause: Cause::Timeout, wait: None };
        assert_eq!(wait(&settings, late, 1, 0.5), None, "not in `on`");
    }

    #[test]
    fn what_has_no_time_left_or_no_budget_is_not_sent_again() {
        let lost = FailedAttempt { cause: Cause::Transport, wait: None };
        let minute = Duration::from_secs(60);
        let retry = Retry::new(settings("budget = 0.5, budget_min = 0, backoff = \"1s\""));
        assert_eq!(retry.decide(lost, 1, minute), RetryDecision::BudgetSpent);
        retry.count_request();
        retry.count_request();
        let asked = FailedAttempt { wait: Some(minute), ..lost };
        assert_eq!(retry.decide(asked, 1, minute), RetryDecision::Never);
        assert!(matches!(retry.decide(lost, 1, minute), RetryDecision::After(_)));
        assert_eq!(retry.decide(lost, 1, minute), RetryDecision::BudgetSpent);
        assert_eq!(retry.decide(lost, 3, minute), RetryDecision::Never);
    }
}
