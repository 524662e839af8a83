//! Results that are too large to be handed out at once: kept for a while, for their caller only.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    call::{Caller, RoutePath},
    config::Limits,
    mcp::raw::Raw,
    telemetry::{Counter, Counters},
};

/// Prefix of every link; no server's resources are called so.
const SCHEME: &str = "tollgate://result/";

/// The kept results of a gate. They outlive reloads.
#[derive(Debug)]
pub struct Linked {
    /// The oldest first.
    kept: Mutex<VecDeque<Kept>>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Kept {
    uri: String,
    route: RoutePath,
    caller: Caller,
    result: Raw,
    until: Instant,
}

impl Linked {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { kept: Mutex::default(), counters }
    }

    /// Keeps a result, and gives the link to it; none where there is no room for so large a one.
    pub fn keep(
        &self,
        route: &RoutePath,
        caller: &Caller,
        result: Raw,
        limits: &Limits,
    ) -> Option<String> {
        let bytes = result.bytes().len();
        if limits.linked_bytes_max.min(limits.linked_per_caller_max) < bytes {
            return None;
        }
        let uri = format!("{SCHEME}{:032x}", rand::random::<u128>());
        let mut kept = self.kept.lock();
        expire(&mut kept, Instant::now());
        let ours = |one: &Kept| one.caller == *caller;
        self.make_room(&mut kept, limits.linked_per_caller_max - bytes, ours);
        self.make_room(&mut kept, limits.linked_bytes_max - bytes, |_| true);
        let route = route.to_owned();
        let caller = caller.clone();
        let until = Instant::now() + limits.linked_age;
        kept.push_back(Kept { uri: uri.clone(), route, caller, result, until });
        Some(uri)
    }

    /// The result that a link leads this caller to.
    pub fn find(&self, route: &RoutePath, caller: &Caller, uri: &str) -> Option<Raw> {
        if !Self::is_link(uri) {
            return None;
        }
        let mut kept = self.kept.lock();
        expire(&mut kept, Instant::now());
        let is_it = |one: &&Kept| one.uri == uri && one.route == *route && one.caller == *caller;
        kept.iter().find(is_it).map(|one| one.result.clone())
    }

    /// Whether it is one of the gate's own links, good or not.
    pub fn is_link(uri: &str) -> bool {
        uri.starts_with(SCHEME)
    }

    /// How many are kept.
    pub fn count(&self) -> usize {
        self.kept.lock().len()
    }

    /// Forgets what nobody may read any more.
    pub fn sweep(&self) {
        expire(&mut self.kept.lock(), Instant::now());
    }

    fn make_room(&self, kept: &mut VecDeque<Kept>, rest: usize, of: impl Fn(&Kept) -> bool) {
        loop {
            let bytes: usize =
                kept.iter().filter(|one| of(one)).map(|one| one.result.bytes().len()).sum();
            let oldest = kept.iter().position(&of).filter(|_| rest < bytes);
            let Some(oldest) = oldest else { return };
            kept.remove(oldest);
            self.counters.add(Counter::LinkedDropped);
        }
    }
}

fn expire(kept: &mut VecDeque<Kept>, now: Instant) {
    kept.retain(|one| now < one.until);
}

/// A time in words.
pub fn spoken(age: Duration) -> String {
    match age.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_its_caller_there_for_its_time() {
        let counters: Arc<Counters> = Arc::default();
        let linked = Linked::new(Arc::clone(&counters));
        let limits = Limits {
            linked_bytes_max: 100,
            linked_per_caller_max: 60,
            linked_age: Duration::from_secs(60),
            ..Limits::default()
        };
        let result = |bytes: usize| Raw::trusted(format!("\"{}\"", "x".repeat(bytes - 2)));
        let caller = |last: u8| Caller::Address([127, 0, 0, last].into());
        let (one, two) = (caller(1), caller(2));
        let keep = |who, bytes| linked.keep(&"/mcp".into(), who, result(bytes), &limits);
        let found = |who, uri: &str| linked.find(&"/mcp".into(), who, uri).is_some();
        assert_eq!(keep(&one, 61), None, "too large for one caller");
        let first = keep(&one, 40).unwrap();
        assert!(found(&one, &first) && !found(&two, &first));
        assert!(linked.find(&"/other".into(), &one, &first).is_none());
        let second = keep(&one, 30).unwrap();
        assert!(!found(&one, &first) && found(&one, &second), "the oldest made room");
        let [third, fourth] = [keep(&two, 50), keep(&caller(3), 30)].map(Option::unwrap);
        assert!(!found(&one, &second) && found(&two, &third), "of all together");
        assert_eq!(counters.read()["linked_dropped"], 2);
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        expire(&mut linked.kept.lock(), later(58));
        assert!(found(&two, &third) && found(&caller(3), &fourth));
        expire(&mut linked.kept.lock(), later(61));
        assert_eq!(linked.count(), 0);
    }
}
