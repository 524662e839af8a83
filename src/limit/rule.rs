//! A limit with its buckets; and several of them decided at once.

use std::{num::NonZeroU32, ptr, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::MutexGuard;
use sha2::{Digest as _, Sha256};

use crate::{
    call::{Caller, Client},
    config::{Bound, Limit, Per, Window},
    mcp::{method::Method, splice},
};

use super::{
    LimitRefusal, LimitTarget, LimitedRequest,
    bucket::{Bucket, Meter, Now, Shortage},
    keys::{KeyedBuckets, Shard, make_room},
};

#[derive(Debug)]
pub struct Rule {
    limit: Limit,
    meter: Meter,
    keys: KeyedBuckets,
    /// Hash of the limit itself, for a store that others share.
    digest: Digest,
}

/// What is left of a budget.
#[derive(Debug)]
pub struct RuleBudget {
    /// The budget, and what it is per.
    pub text: String,
    pub amount: u32,
    pub left: u32,
}

/// The bytes of a key in a store: no two that somebody finds are the same.
const KEY_BYTES: usize = 20;

/// A hash of texts, each with its length, so that no two rows of texts look alike.
#[derive(Debug, Clone, Default)]
struct Digest(Sha256);

/// The buckets of a request, locked, with what they become: all of them, or dropped, none.
#[derive(Debug)]
pub struct BucketReservation<'a>(Vec<(&'a Rule, u64, MutexGuard<'a, Shard>, Bucket)>);

impl Rule {
    /// A limit of a section, and how many before it there are written the same.
    pub fn new(limit: &Limit, section: &[&str], before: usize) -> Self {
        let meter = Meter::new(limit.bound);
        let mut digest = Digest::default();
        let words = [format!("{:?}", limit.per), meter.words().join(" "), before.to_string()];
        section.iter().for_each(|name| digest.text(name));
        words.iter().for_each(|word| digest.text(word));
        Self { limit: limit.clone(), meter, keys: KeyedBuckets::default(), digest }
    }

    /// Whether it is what this says.
    pub fn is(&self, limit: &Limit) -> bool {
        self.limit == *limit
    }

    /// The bucket of a request.
    pub fn key(&self, request: LimitedRequest<'_>, target: Option<LimitTarget<'_>>) -> u64 {
        let has = |per| self.limit.per.contains(&per);
        let tool = target.filter(|_| request.method == Method::ToolsCall);
        self.keys.hash((
            has(Per::Caller).then_some(request.caller),
            has(Per::Client).then(|| name(request.client)),
            has(Per::Route).then_some(request.route),
            has(Per::Upstream).then(|| target.map(|target| target.upstream)),
            has(Per::Tool).then_some(match tool {
                Some(tool) => (Some((tool.upstream, tool.name)), None),
                None => (None, Some(request.method)),
            }),
        ))
    }

    /// The key of the same bucket in a store: what several gates know it by.
    pub fn shared_key(
        &self,
        request: LimitedRequest<'_>,
        target: Option<LimitTarget<'_>>,
    ) -> String {
        let mut digest = self.digest.clone();
        for per in &self.limit.per {
            match per {
                Per::Caller => digest.caller(request.caller),
                Per::Client => digest.optional(name(request.client).as_deref()),
                Per::Route => digest.text(request.route),
                Per::Upstream => digest.optional(target.map(|target| target.upstream.as_str())),
                Per::Tool => match target.filter(|_| request.method == Method::ToolsCall) {
                    Some(tool) => ["tool", tool.upstream, tool.name]
                        .into_iter()
                        .for_each(|text| digest.text(text)),
                    None => ["method", request.method.name()]
                        .into_iter()
                        .for_each(|text| digest.text(text)),
                },
            }
        }
        digest.key()
    }

    /// The words by which a store's script knows the limit.
    pub fn words(&self) -> [String; 5] {
        self.meter.words()
    }

    /// Takes what a store let in, enough or not: how many keys had to be forgotten, of which it
    /// keeps `keys_max`.
    pub fn charge(&self, key: u64, cost: NonZeroU32, keys_max: usize, now: Now) -> usize {
        let mut shard = self.keys.shard(key);
        let bucket = self.meter.charge(shard.get(&key).copied(), now, cost);
        let is_new = !shard.contains_key(&key);
        let forgotten = if is_new { make_room(&mut shard, self.meter, now, keys_max) } else { 0 };
        shard.insert(key, bucket);
        forgotten
    }

    /// Gives back what was taken at `at`, and not used after all.
    pub fn give_back(&self, key: u64, cost: NonZeroU32, at: Now, now: Now) {
        let mut shard = self.keys.shard(key);
        let Some(bucket) = shard.get(&key).copied() else { return };
        match self.meter.give_back(bucket, cost, at, now) {
            Some(bucket) => drop(shard.insert(key, bucket)),
            None => drop(shard.remove(&key)),
        }
    }

    pub fn sweep(&self, now: Now) {
        self.keys.sweep(self.meter, now);
    }

    pub fn key_count(&self) -> usize {
        self.keys.count()
    }

    /// Returns what is left of a budget for whoever has used most of it; none for a rate.
    pub fn budget_left(&self, now: Now) -> Option<RuleBudget> {
        let Bound::Budget { amount, window } = self.limit.bound else { return None };
        let window = match window {
            Window::Day => "day",
            Window::Month => "month",
        };
        let per = self.limit.per.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let per = if per.is_empty() { per } else { format!(" per {per}") };
        let left = self.keys.least_left(self.meter, now).unwrap_or(amount);
        Some(RuleBudget { text: format!("{amount}/{window}{per}"), amount, left })
    }

    pub fn refusal(&self, short: Shortage) -> LimitRefusal {
        match (short, self.limit.bound) {
            (Shortage::For(wait), Bound::Rate { .. }) => LimitRefusal::Rate(wait),
            (Shortage::For(wait), Bound::Budget { .. }) => LimitRefusal::Budget(wait),
            (Shortage::Always, _) => LimitRefusal::Cost,
        }
    }
}

/// Whether each of these rules has enough left of these keys.
///
/// # Errors
/// Where one has not: the refusal of the one that takes longest.
pub fn try_take<'a>(
    keys: &[(&'a Arc<Rule>, u64)],
    cost: NonZeroU32,
    now: Now,
) -> Result<BucketReservation<'a>, LimitRefusal> {
    let mut keys: Vec<_> = keys.iter().map(|(rule, key)| (&***rule, *key)).collect();
    // Locked in one order by all: nobody waits for somebody who waits for them.
    keys.sort_unstable_by_key(|(rule, _)| ptr::from_ref::<Rule>(rule).addr());
    let mut held = Vec::with_capacity(keys.len());
    let mut refused: Option<LimitRefusal> = None;
    for (rule, key) in keys {
        let shard = rule.keys.shard(key);
        match rule.meter.take(shard.get(&key).copied(), now, cost) {
            Ok(bucket) => held.push((rule, key, shard, bucket)),
            Err(short) => {
                refused = worst(refused.into_iter().chain([rule.refusal(short)]));
            }
        }
    }
    refused.map_or(Ok(BucketReservation(held)), Err)
}

impl BucketReservation<'_> {
    /// Takes it out of all of them: how many keys had to be forgotten, of which a rule keeps
    /// `keys_max`.
    pub fn commit(self, keys_max: usize, now: Now) -> usize {
        let mut forgotten = 0;
        for (rule, key, mut shard, bucket) in self.0 {
            if !shard.contains_key(&key) {
                forgotten += make_room(&mut shard, rule.meter, now, keys_max);
            }
            shard.insert(key, bucket);
        }
        forgotten
    }
}

impl Digest {
    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
    }

    fn optional(&mut self, text: Option<&str>) {
        self.text(if text.is_some() { "some" } else { "none" });
        self.text(text.unwrap_or_default());
    }

    fn caller(&mut self, caller: &Caller) {
        match caller {
            Caller::Parent => self.text("parent"),
            Caller::Address(address) => {
                self.text("address");
                self.text(&address.to_string());
            }
            Caller::Known(identity) => {
                let known = [&identity.authority, &identity.issuer, &identity.subject];
                self.text("known");
                known.into_iter().for_each(|text| self.text(text));
            }
        }
    }

    fn key(self) -> String {
        let hash = self.0.finalize();
        URL_SAFE_NO_PAD.encode(hash.get(..KEY_BYTES).unwrap_or(&hash))
    }
}

/// The one that takes longest.
pub fn worst(refusals: impl IntoIterator<Item = LimitRefusal>) -> Option<LimitRefusal> {
    refusals.into_iter().max_by_key(|refusal| longest(*refusal))
}

pub(super) fn longest(refusal: LimitRefusal) -> Duration {
    refusal.retry_after().unwrap_or(Duration::MAX)
}

/// The name that a program gives itself.
fn name(client: &Client) -> Option<String> {
    splice::member(&client.info, "name").and_then(|name| name.try_read())
}
