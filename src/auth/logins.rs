//! Failed logins, counted by where they come from: who has too many is not even listened to.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{
    config::{Limits, Rate},
    telemetry::{Counter, Counters},
};

/// The part of a full table that makes room at once, so that it is not searched for each new one.
const ROOM: usize = 64;
/// Credentials of limited sources that wait to be checked: some 20 ms of signatures.
const WAITING_MAX: usize = 256;

/// The failed logins of a gate: the generic cell rate algorithm for each source, of which as many
/// fail at once as in a whole period.
#[derive(Debug)]
pub struct Logins {
    rate: Rate,
    sources_max: usize,
    epoch: Instant,
    secret: RandomState,
    /// The time by source, hashed, when all its failures are forgotten, since `epoch`.
    forgotten: Mutex<HashMap<u64, Duration>>,
    /// Credentials of limited sources are checked one at a time: signatures take no more than one
    /// core, however many come.
    turn: Semaphore,
    waiting: AtomicUsize,
    counters: Arc<Counters>,
}

/// The turn of a credential, until this is dropped.
#[derive(Debug)]
pub struct LoginTurn<'a> {
    _place: SemaphorePermit<'a>,
    _waiting: Waiting<'a>,
}

/// A login that waits for its turn, or has it.
#[derive(Debug)]
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(all: &'a AtomicUsize) -> Option<Self> {
        let waiting = Self(all);
        (all.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The source that a login comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoginSource<'a> {
    /// An address; of IPv6 the first 64 bits, which one customer has for himself (RFC 6177).
    Network(IpAddr),
    /// A key that is known by its id, with a secret that is wrong.
    Key(&'a str, &'a str),
}

impl Logins {
    pub fn new(limits: &Limits, counters: &Arc<Counters>) -> Self {
        Self {
            rate: limits.failed_logins,
            sources_max: limits.login_sources_max,
            epoch: Instant::now(),
            secret: RandomState::new(),
            forgotten: Mutex::default(),
            turn: Semaphore::new(1),
            waiting: AtomicUsize::new(0),
            counters: Arc::clone(counters),
        }
    }

    /// Whether it counts as these say.
    pub fn is_of(&self, limits: &Limits) -> bool {
        self.rate == limits.failed_logins && self.sources_max == limits.login_sources_max
    }

    /// How long a source has to wait before it is listened to; none where it need not.
    pub fn wait(&self, source: LoginSource<'_>) -> Option<Duration> {
        self.wait_at(source, self.epoch.elapsed())
    }

    /// Waits for the turn of a credential of a limited source; none where too many wait.
    pub async fn turn(&self) -> Option<LoginTurn<'_>> {
        let waiting = Waiting::begin(&self.waiting)?;
        // Never closed.
        let place = self.turn.acquire().await.ok()?;
        Some(LoginTurn { _place: place, _waiting: waiting })
    }

    /// Counts a failure.
    pub fn failed(&self, source: LoginSource<'_>) {
        self.failed_at(source, self.epoch.elapsed());
    }

    fn wait_at(&self, source: LoginSource<'_>, now: Duration) -> Option<Duration> {
        let key = self.key(source);
        let forgotten = self.forgotten.lock().get(&key).copied()?;
        let allowed = self.each() * (self.rate.count.saturating_sub(1));
        forgotten.checked_sub(now + allowed).filter(|wait| !wait.is_zero())
    }

    fn failed_at(&self, source: LoginSource<'_>, now: Duration) {
        let key = self.key(source);
        let mut all = self.forgotten.lock();
        if self.sources_max <= all.len() && !all.contains_key(&key) {
            self.make_room(&mut all, now);
        }
        let forgotten = all.entry(key).or_insert(now);
        // Logins that came at once, and were listened to, do not lock out for longer than a period.
        *forgotten = ((*forgotten).max(now) + self.each()).min(now + self.rate.period);
    }

    fn make_room(&self, all: &mut HashMap<u64, Duration>, now: Duration) {
        all.retain(|_, forgotten| now < *forgotten);
        let kept = self.sources_max - self.sources_max.div_ceil(ROOM);
        let gone = all.len().saturating_sub(kept);
        if gone == 0 {
            return;
        }
        let mut each: Vec<_> = all.iter().map(|(key, forgotten)| (*forgotten, *key)).collect();
        each.select_nth_unstable(gone - 1);
        for (_, key) in each.iter().take(gone) {
            all.remove(key);
            self.counters.add(Counter::LoginSourcesEvicted);
        }
    }

    /// Time that one failure costs.
    fn each(&self) -> Duration {
        self.rate.period / self.rate.count.max(1)
    }

    fn key(&self, source: LoginSource<'_>) -> u64 {
        self.secret.hash_one(match source {
            LoginSource::Network(IpAddr::V6(address)) => {
                let network = address.to_bits() >> 64 << 64;
                LoginSource::Network(IpAddr::V6(network.into()))
            }
            other @ (LoginSource::Network(IpAddr::V4(_)) | LoginSource::Key(..)) => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logins(count: u32, seconds: u64, sources_max: usize) -> Logins {
        let rate = Rate { count, period: Duration::from_secs(seconds) };
        let limits =
            Limits { failed_logins: rate, login_sources_max: sources_max, ..Limits::default() };
        Logins::new(&limits, &Arc::default())
    }

    fn network(text: &str) -> LoginSource<'static> {
        LoginSource::Network(text.parse().unwrap())
    }

    const NOW: Duration = Duration::from_secs(1_000);

    #[test]
    fn so_many_fail_and_then_one_waits() {
        let logins = logins(3, 60, 100);
        let (one, other) = (network("192.0.2.1"), network("192.0.2.2"));
        for _ in 0..3 {
            assert_eq!(logins.wait_at(one, NOW), None);
            logins.failed_at(one, NOW);
        }
        assert_eq!(logins.wait_at(one, NOW), Some(Duration::from_secs(20)));
        assert_eq!(logins.wait_at(other, NOW), None);
        assert_eq!(logins.wait_at(one, NOW + Duration::from_secs(20)), None);
        for _ in 0..100 {
            logins.failed_at(one, NOW);
        }
        assert_eq!(logins.wait_at(one, NOW), Some(Duration::from_secs(20)));
        assert_eq!(logins.wait_at(one, NOW + Duration::from_secs(60)), None);
    }

    #[test]
    fn a_customer_of_ipv6_is_one_source() {
        let logins = logins(1, 60, 100);
        logins.failed_at(network("2001:db8:1:2:3::4"), NOW);
        assert!(logins.wait_at(network("2001:db8:1:2:ffff::1"), NOW).is_some());
        assert_eq!(logins.wait_at(network("2001:db8:1:3::1"), NOW), None);
        logins.failed_at(LoginSource::Key("agents", "a"), NOW);
        assert!(logins.wait_at(LoginSource::Key("agents", "a"), NOW).is_some());
        assert_eq!(logins.wait_at(LoginSource::Key("agents", "b"), NOW), None);
        assert_eq!(logins.wait_at(LoginSource::Key("other", "a"), NOW), None);
    }

    #[test]
    fn made_up_sources_push_nobody_out_who_fails_often() {
        let logins = logins(10, 600, 64);
        let often = network("192.0.2.1");
        for _ in 0..10 {
            logins.failed_at(often, NOW);
        }
        for last in 0..10_000_u32 {
            logins.failed_at(LoginSource::Network(IpAddr::from(last.to_be_bytes())), NOW);
            assert!(logins.forgotten.lock().len() <= 64);
        }
        assert!(logins.wait_at(often, NOW).is_some());
        assert!(0 < logins.counters.read()["login_sources_evicted"]);
    }

    proptest! {
        /// However they are spread, no more are listened to than the rate and one burst of it.
        #[test]
        fn no_more_fail_than_the_rate_says(gaps in prop::collection::vec(0_u64..5_000, 1..200)) {
            let (logins, source) = (logins(5, 10, 100), network("192.0.2.1"));
            let (mut heard, mut passed) = (0_u64, 0_u64);
            for gap in gaps {
                passed += gap;
                let now = Duration::from_millis(passed);
                if logins.wait_at(source, now).is_none() {
                    logins.failed_at(source, now);
                    heard += 1;
                }
            }
            prop_assert!(heard <= 5 + passed / 2_000, "{heard} in {passed} ms");
        }
    }
}
