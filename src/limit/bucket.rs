//! A bucket, as a value: what is taken out of it, and when it is full again.

use std::{cell::Cell, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{NotKeyed, StateStore},
};
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};

use crate::config::{Bound, Window};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A moment, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since the gate began to count.
    pub elapsed: Duration,
    /// Seconds since 1970 (UTC).
    pub unix: u64,
}

/// How much was taken out for one key. Ordered by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// The time from which it is as good as new: for a rate since the gate began to count, for a
    /// budget, whose window ends then, since 1970.
    full_at: Duration,
    /// How much was taken out in this window; 0 for a rate, where `full_at` says it all.
    spent: u32,
}

/// The refusal where there is not enough in a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// After so long there is.
    For(Duration),
    /// The bucket never has so much.
    Always,
}

/// How much can be taken out of the buckets of one limit, and when.
#[derive(Debug, Clone, Copy)]
pub enum Meter {
    Rate(Quota),
    Budget { amount: u32, window: Window },
}

impl Meter {
    pub fn new(bound: Bound) -> Self {
        match bound {
            Bound::Budget { amount, window } => Self::Budget { amount, window },
            Bound::Rate { count, period, burst } => {
                // Rounded up: never more than the rate.
                let nanos = period.as_nanos().div_ceil(u128::from(count.max(1)));
                let each = Duration::from_nanos_u128(nanos);
                let quota = Quota::with_period(each).expect("a period and a count are above 0");
                Self::Rate(quota.allow_burst(at_least_one(burst)))
            }
        }
    }

    /// Takes `cost` out of a bucket, and gives what is left; a new one is full.
    ///
    /// # Errors
    /// Where there is not enough in it.
    pub fn take(
        &self,
        bucket: Option<Bucket>,
        now: Now,
        cost: NonZeroU32,
    ) -> Result<Bucket, Shortage> {
        let bucket = bucket.filter(|bucket| !self.is_full(*bucket, now));
        match self {
            Self::Rate(quota) => {
                let ahead = bucket.map_or(Duration::ZERO, |bucket| bucket.full_at - now.elapsed);
                let ahead = gcra(*quota, ahead, cost)?;
                Ok(Bucket { full_at: now.elapsed + ahead, spent: 0 })
            }
            Self::Budget { amount, .. } if *amount < cost.get() => Err(Shortage::Always),
            Self::Budget { amount, window } => {
                let ends = || Duration::from_secs(window.end(now.unix));
                let bucket = bucket.unwrap_or_else(|| Bucket { full_at: ends(), spent: 0 });
                let spent = bucket.spent.checked_add(cost.get()).filter(|spent| spent <= amount);
                let wait = bucket.full_at.saturating_sub(Duration::from_secs(now.unix));
                Ok(Bucket { spent: spent.ok_or(Shortage::For(wait))?, ..bucket })
            }
        }
    }

    /// A bucket after `cost` that was let in by others than its gate, enough or not.
    pub fn charge(&self, bucket: Option<Bucket>, now: Now, cost: NonZeroU32) -> Bucket {
        let bucket = bucket.filter(|bucket| !self.is_full(*bucket, now));
        match self {
            Self::Rate(quota) => {
                let from = bucket.map_or(now.elapsed, |bucket| bucket.full_at);
                let longer = quota.replenish_interval().saturating_mul(cost.get());
                Bucket { full_at: from.saturating_add(longer), spent: 0 }
            }
            Self::Budget { window, .. } => {
                let ends = || Duration::from_secs(window.end(now.unix));
                let bucket = bucket.unwrap_or_else(|| Bucket { full_at: ends(), spent: 0 });
                Bucket { spent: bucket.spent.saturating_add(cost.get()), ..bucket }
            }
        }
    }

    /// A bucket that has back what was taken out of it at `at`; none where it is full again.
    /// Nothing comes back of a budget's window that is over.
    pub fn give_back(&self, bucket: Bucket, cost: NonZeroU32, at: Now, now: Now) -> Option<Bucket> {
        match self {
            Self::Rate(quota) => {
                let shorter = quota.replenish_interval().saturating_mul(cost.get());
                let full_at = bucket.full_at.saturating_sub(shorter);
                (now.elapsed < full_at).then_some(Bucket { full_at, ..bucket })
            }
            Self::Budget { window, .. } => {
                let same = bucket.full_at == Duration::from_secs(window.end(at.unix));
                let spent = bucket.spent.saturating_sub(if same { cost.get() } else { 0 });
                (0 < spent).then_some(Bucket { spent, ..bucket })
            }
        }
    }

    /// The words by which the store's script knows it.
    pub fn words(&self) -> [String; 5] {
        let number = |number: u64| number.to_string();
        match self {
            Self::Rate(quota) => {
                let each = quota.replenish_interval();
                let all = each.saturating_mul(quota.burst_size().get());
                let [each, all] = [each, all]
                    .map(|time| [number(time.as_secs()), number(u64::from(time.subsec_nanos()))]);
                let [seconds, nanos] = each;
                let [all_seconds, all_nanos] = all;
                ["rate".to_owned(), seconds, nanos, all_seconds, all_nanos]
            }
            Self::Budget { amount, window } => {
                let word = match window {
                    Window::Day => "day",
                    Window::Month => "month",
                };
                let none = || number(0);
                [word.to_owned(), number(u64::from(*amount)), none(), none(), none()]
            }
        }
    }

    /// Returns how much is left in a bucket of a budget; none for a rate.
    pub fn left(&self, bucket: Bucket, now: Now) -> Option<u32> {
        let Self::Budget { amount, .. } = self else { return None };
        let spent = if self.is_full(bucket, now) { 0 } else { bucket.spent };
        Some(amount.saturating_sub(spent))
    }

    pub fn is_full(&self, bucket: Bucket, now: Now) -> bool {
        bucket.full_at
            <= match self {
                Self::Rate(_) => now.elapsed,
                Self::Budget { .. } => Duration::from_secs(now.unix),
            }
    }
}

impl Window {
    /// When the one ends that `unix` is in.
    fn end(self, unix: u64) -> u64 {
        match self {
            Self::Day => (unix / DAY_SECONDS + 1) * DAY_SECONDS,
            Self::Month => next_month(unix).unwrap_or(u64::MAX),
        }
    }
}

/// None beyond the year 9999.
fn next_month(unix: u64) -> Option<u64> {
    let now = Timestamp::from_second(i64::try_from(unix).ok()?).ok()?;
    let date = now.to_zoned(TimeZone::UTC).date();
    let next = date.first_of_month().checked_add(1.month()).ok()?;
    let next = next.to_zoned(TimeZone::UTC).ok()?.timestamp();
    u64::try_from(next.as_second()).ok()
}

/// The generic cell rate algorithm, from a moment on: a bucket that would be full again after
/// `ahead` is so after how long, once `cost` is taken out.
fn gcra(quota: Quota, ahead: Duration, cost: NonZeroU32) -> Result<Duration, Shortage> {
    let trial = Trial { ahead: Cell::new(ahead.into()) };
    let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(quota, trial, FixedClock);
    let decided = limiter.check_n(cost).ok().ok_or(Shortage::Always)?;
    decided.map_err(|until| Shortage::For(until.wait_time_from(FixedClock.now())))?;
    Ok(limiter.into_state_store().ahead.get().into())
}

/// The moment of the decision, from which governor counts.
struct FixedClock;

impl Clock for FixedClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::default()
    }
}

/// The one state that a decision looks at.
struct Trial {
    ahead: Cell<Nanos>,
}

impl StateStore for Trial {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (decided, ahead) = decide(Some(self.ahead.get()))?;
        self.ahead.set(ahead);
        Ok(decided)
    }
}

fn at_least_one(count: u32) -> NonZeroU32 {
    NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN)
}
