//! Maps whose keys are hashes with a secret already: they are not hashed once more.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map by keys that nobody can choose: each is a hash with a secret of its own.
pub type HashedMap<T> = HashMap<u64, T, BuildHasherDefault<KeyMixer>>;

/// Spreads what such keys have in common, such as the bits that chose a shard.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyMixer(u64);

/// An odd number with about half of its bits set (the golden ratio's).
const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for KeyMixer {
    fn finish(&self) -> u64 {
        self.0
    }

    /// Keys are numbers; other bytes are taken in eight by eight.
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let chunk = chunk.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte));
            self.write_u64(self.0 ^ chunk);
        }
    }

    fn write_u64(&mut self, key: u64) {
        // Both halves of the product: each bit of the key reaches the highest bits and the lowest.
        let product = u128::from(key) * FACTOR;
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn mixed(key: u64) -> u64 {
        let mut mixer = KeyMixer::default();
        mixer.write_u64(key);
        mixer.finish()
    }

    #[test]
    fn keys_of_one_shard_are_spread_over_a_map() {
        for shift in [4, 8, 32, 48] {
            // A map takes the lowest bits for the place, and the highest seven to compare.
            let keys = || (1..=1_024_u64).map(|key| mixed(key << shift | 5));
            let low: HashSet<_> = keys().map(|hash| hash % 1_024).collect();
            let high: HashSet<_> = keys().map(|hash| hash >> 57).collect();
            assert!(500 < low.len() && 100 < high.len(), "{shift}: {} {}", low.len(), high.len());
        }
    }

    #[test]
    fn bytes_count_in_their_order() {
        let hash = |bytes: &[u8]| {
            let mut mixer = KeyMixer::default();
            mixer.write(bytes);
            mixer.finish()
        };
        assert_ne!(hash(b"abcdefgh12"), hash(b"12abcdefgh"));
        assert_ne!(hash(b"ab"), hash(b"ba"));
    }
}
