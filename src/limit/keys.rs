//! The buckets of one limit by their keys: in shards, and no more than so many.

use std::hash::{BuildHasher as _, RandomState};

use parking_lot::{Mutex, MutexGuard};

use crate::call::hashed::HashedMap;

use super::bucket::{Bucket, Meter, Now};

/// Several times the cores of most machines, so that they seldom meet at one lock.
const SHARDS: usize = 16;
/// The part of a full shard that makes room at once, so that it is not searched for each new key.
const ROOM: usize = 64;

/// Keys are hashed with a secret of their own, and kept as that alone: a name of any length costs
/// eight bytes, and nobody can choose names that share a bucket.
#[derive(Debug, Default)]
pub struct KeyedBuckets {
    shards: [Mutex<Shard>; SHARDS],
    secret: RandomState,
}

pub type Shard = HashedMap<Bucket>;

impl KeyedBuckets {
    pub fn hash(&self, key: impl std::hash::Hash) -> u64 {
        self.secret.hash_one(key)
    }

    /// The shard of a key, locked.
    pub fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        let at = usize::try_from(key % SHARDS as u64).unwrap_or_default();
        self.shards.get(at).expect("a remainder is below the number of shards").lock()
    }

    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Returns how much is left in the emptiest bucket of a budget; none where there is no bucket.
    pub fn least_left(&self, meter: Meter, now: Now) -> Option<u32> {
        let least = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.values().filter_map(|bucket| meter.left(*bucket, now)).min()
        };
        self.shards.iter().filter_map(least).min()
    }

    /// Forgets the buckets that are full again.
    pub fn sweep(&self, meter: Meter, now: Now) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.retain(|_, bucket| !meter.is_full(*bucket, now));
            let wanted = 2 * shard.len();
            shard.shrink_to(wanted);
        }
    }
}

/// Makes room for one more key where all of them may be `max`. Those go whose buckets are full
/// again, and if these are few, those out of which least was taken: how many of the latter. Whoever
/// is over a limit is the last to be forgotten, however many new keys somebody makes up.
pub fn make_room(shard: &mut Shard, meter: Meter, now: Now, max: usize) -> usize {
    let max = (max / SHARDS).max(1);
    if shard.len() < max {
        return 0;
    }
    shard.retain(|_, bucket| !meter.is_full(*bucket, now));
    let kept = max - max.div_ceil(ROOM);
    let gone = shard.len().saturating_sub(kept);
    if gone == 0 {
        return 0;
    }
    let mut all: Vec<_> = shard.iter().map(|(key, bucket)| (*bucket, *key)).collect();
    all.select_nth_unstable(gone - 1);
    for (_, key) in all.iter().take(gone) {
        shard.remove(key);
    }
    gone
}
