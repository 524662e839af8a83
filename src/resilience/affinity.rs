//! Assigns callers: rendezvous hashing of sessions on replicas, and of callers on shares.

use std::hash::Hasher as _;

/// Number of steps that a percentage is measured in.
const WHOLE: u64 = 10_000;

/// A number for a text, the same in every process of this program: FNV-1a, 64 bits.
pub fn stable_hash(text: &str) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(text.as_bytes());
    hash.finish()
}

/// The one of `nodes` that a key belongs to, whichever others there are: when one goes, only its
/// own keys move (highest random weight, Thaler and Ravishankar 1998). Nodes are (place, number).
pub fn rendezvous<T>(key: u64, nodes: impl Iterator<Item = (T, u64)>) -> Option<T> {
    nodes.max_by_key(|(_, node)| splitmix64(key ^ splitmix64(*node))).map(|(place, _)| place)
}

/// Whether a key is among these percent of all. Who is stays so when the share grows.
pub fn in_percentage(key: u64, percent: u32) -> bool {
    splitmix64(key) % WHOLE < u64::from(percent) * (WHOLE / 100)
}

/// The finalizer of splitmix64 (Steele, Lea and Flood 2014): each bit of the input changes half of
/// the output's.
fn splitmix64(key: u64) -> u64 {
    let key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

struct Fnv(u64);

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nodes(count: usize) -> Vec<(usize, u64)> {
        (0..count).map(|at| (at, stable_hash(&format!("http://10.0.0.{at}/mcp")))).collect()
    }

    proptest! {
        #[test]
        fn only_the_keys_of_a_lost_node_move(key: u64, count in 2_usize..9, lost: usize) {
            let all = nodes(count);
            let lost = lost % count;
            let before = rendezvous(key, all.iter().copied()).unwrap();
            let left = all.iter().copied().filter(|(at, _)| *at != lost);
            let after = rendezvous(key, left).unwrap();
            prop_assert!(before == lost || before == after);
        }

        #[test]
        fn a_growing_share_keeps_those_it_has(
            key: u64,
            small in 0_u32..=100,
            large in 0_u32..=100,
        ) {
            let (small, large) = (small.min(large), small.max(large));
            prop_assert!(!in_percentage(key, small) || in_percentage(key, large));
            prop_assert!(!in_percentage(key, 0) && in_percentage(key, 100));
        }
    }

    #[test]
    fn keys_and_callers_are_spread_evenly() {
        let all = nodes(4);
        let mut counts = [0_usize; 4];
        let mut among = 0;
        for at in 0..4_000 {
            let key = stable_hash(&format!("address 10.0.{}.{}", at / 250, at % 250));
            counts[rendezvous(key, all.iter().copied()).unwrap()] += 1;
            among += usize::from(in_percentage(key, 25));
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert!((850..1_150).contains(&among), "{among}");
        assert_eq!(rendezvous(1, std::iter::empty::<(usize, u64)>()), None);
    }
}
