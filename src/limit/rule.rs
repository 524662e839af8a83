//! One limit with its buckets; and several of them decided at once.

use std::{num::NonZeroU32, ptr, time::Duration};

use parking_lot::MutexGuard;

use crate::{
    call::Client,
    config::{Bound, Limit, Per},
    mcp::{method::Method, splice},
};

use super::{
    Refusal, Request, Target,
    bucket::{Bucket, Meter, Now, Short},
    keys::{Keys, Shard, make_room},
};

#[derive(Debug)]
pub struct Rule {
    limit: Limit,
    meter: Meter,
    keys: Keys,
}

/// The buckets of a request, locked, with what they become: all of them, or dropped, none.
#[derive(Debug)]
pub struct Held<'a>(Vec<(&'a Rule, u64, MutexGuard<'a, Shard>, Bucket)>);

impl Rule {
    pub fn new(limit: &Limit) -> Self {
        Self { limit: limit.clone(), meter: Meter::new(limit.bound), keys: Keys::default() }
    }

    /// Whether it is what this says.
    pub fn is(&self, limit: &Limit) -> bool {
        self.limit == *limit
    }

    /// The bucket of a request.
    pub fn key(&self, request: Request<'_>, target: Option<Target<'_>>) -> u64 {
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

    pub fn sweep(&self, now: Now) {
        self.keys.sweep(self.meter, now);
    }

    pub fn key_count(&self) -> usize {
        self.keys.count()
    }

    fn refusal(&self, short: Short) -> Refusal {
        match (short, self.limit.bound) {
            (Short::For(wait), Bound::Rate { .. }) => Refusal::Rate(wait),
            (Short::For(wait), Bound::Budget { .. }) => Refusal::Budget(wait),
            (Short::Always, _) => Refusal::Cost,
        }
    }
}

/// Whether each of these rules has enough left of these keys.
///
/// # Errors
/// Where one has not: the refusal of the one that takes longest.
pub fn look<'a>(keys: &[(&'a Rule, u64)], cost: NonZeroU32, now: Now) -> Result<Held<'a>, Refusal> {
    let mut keys = keys.to_vec();
    // Locked in one order by all: nobody waits for somebody who waits for them.
    keys.sort_unstable_by_key(|(rule, _)| ptr::from_ref::<Rule>(rule).addr());
    let mut held = Vec::with_capacity(keys.len());
    let mut refused: Option<Refusal> = None;
    for (rule, key) in keys {
        let shard = rule.keys.shard(key);
        match rule.meter.take(shard.get(&key).copied(), now, cost) {
            Ok(bucket) => held.push((rule, key, shard, bucket)),
            Err(short) => {
                let refusals = refused.into_iter().chain([rule.refusal(short)]);
                refused = refusals.max_by_key(|refusal| longest(*refusal));
            }
        }
    }
    refused.map_or(Ok(Held(held)), Err)
}

impl Held<'_> {
    /// Takes it out of all of them: how many keys had to be forgotten, of which a rule keeps
    /// `keys_max`.
    pub fn take(self, keys_max: usize, now: Now) -> usize {
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

fn longest(refusal: Refusal) -> Duration {
    refusal.retry_after().unwrap_or(Duration::MAX)
}

/// What a program calls itself.
fn name(client: &Client) -> Option<String> {
    splice::member(&client.info, "name").and_then(|name| name.try_read())
}
