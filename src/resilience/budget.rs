//! Retries as a share of requests (the retry budget of Finagle and Linkerd): a server in trouble is
//! asked for a little more than before, and not for a multiple of it.

use std::time::Duration;

use crate::config::Share;

/// Length of the window in seconds, the current one included.
const SECONDS: u64 = 10;

/// Requests and retries of the last seconds. Times are since whatever moment its owner likes.
#[derive(Debug)]
pub struct RetryBudget {
    share: Share,
    /// Allowed in each second, however few requests there are.
    least: u32,
    seconds: [Second; SECONDS as usize],
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    at: u64,
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    pub fn new(share: Share, least: u32) -> Self {
        Self { share, least, seconds: [Second::default(); SECONDS as usize] }
    }

    /// Counts a request that is sent for the first time.
    pub fn request(&mut self, now: Duration) {
        if let Some(second) = self.second(now) {
            second.requests += 1;
        }
    }

    /// Returns how many retries are left.
    pub fn left(&self, now: Duration) -> u64 {
        let at = now.as_secs();
        let inside = || self.seconds.iter().filter(|second| at < second.at + SECONDS);
        let requests: u64 = inside().map(|second| second.requests).sum();
        let retries: u64 = inside().map(|second| second.retries).sum();
        let allowed = self.share.of(requests) + u64::from(self.least) * SECONDS;
        allowed.saturating_sub(retries)
    }

    /// Counts a retry, if there is one left.
    pub fn retry(&mut self, now: Duration) -> bool {
        let has = 0 < self.left(now);
        if has && let Some(second) = self.second(now) {
            second.retries += 1;
        }
        has
    }

    fn second(&mut self, now: Duration) -> Option<&mut Second> {
        let at = now.as_secs();
        let second = self.seconds.get_mut((at % SECONDS) as usize)?;
        if second.at != at {
            *second = Second { at, ..Second::default() };
        }
        Some(second)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_fifth_of_the_requests_of_ten_seconds_may_be_sent_again() {
        let mut budget = RetryBudget::new(share("0.2"), 0);
        let at = Duration::from_secs;
        assert!(!budget.retry(at(0)), "nothing was asked");
        (0..11).for_each(|_| budget.request(at(0)));
        assert_eq!([0, 0, 3].map(|second| budget.retry(at(second))), [true, true, false]);
        budget.request(at(9));
        assert!(!budget.retry(at(10)), "what was asked is forgotten, and one is too few");
    }

    #[test]
    fn so_many_a_second_are_always_allowed() {
        let mut budget = RetryBudget::new(share("0"), 1);
        let retries = (0..12).filter(|_| budget.retry(Duration::ZERO)).count();
        assert_eq!(retries, 10, "in ten seconds");
    }

    fn share(text: &str) -> Share {
        let toml = format!(
            "[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\nurl = \
             \"http://a/\"\nretry.budget = {text}\n"
        );
        let config = crate::config::parse("routes.toml", &toml, &|_| None).expect("a right file");
        config.upstreams[0].retry.as_ref().expect("retries").budget
    }

    proptest! {
        #[test]
        fn retries_never_pass_their_share(steps in vec((any::<bool>(), 0_u64..1_500), 1..400)) {
            let mut budget = RetryBudget::new(share("0.2"), 1);
            let (mut now, mut asked, mut again) = (Duration::ZERO, Vec::new(), Vec::new());
            for (is_request, millis) in steps {
                now += Duration::from_millis(millis);
                let inside = |then: &&u64| now.as_secs() < **then + SECONDS;
                if is_request {
                    budget.request(now);
                    asked.push(now.as_secs());
                } else {
                    let (all, before) =
                        (asked.iter().filter(inside).count(), again.iter().filter(inside).count());
                    let may = before < all / 5 + 10;
                    prop_assert_eq!(budget.retry(now), may);
                    again.extend(may.then_some(now.as_secs()));
                }
            }
        }
    }
}
