//! Maps by name. Each look at a group asks them some hundred times.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// A map whose keys are names of the settings and hardware ids of their devices: short, few, and no client that sends
/// messages makes any, so none are made to collide.
pub(super) type NameMap<K, V> = HashMap<K, V, BuildHasherDefault<NameHasher>>;

/// Mixes eight bytes at a time: rotate, exclusive or, multiply.
#[derive(Debug, Default, Clone, Copy)]
pub struct NameHasher(u64);

impl NameHasher {
    /// The golden ratio, as an odd number: it spreads the bits of what it multiplies.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(Self::SPREAD);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let word = rest
                .iter()
                .fold(0, |word: u64, byte| (word << 8) | u64::from(*byte));
            self.add(word);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(byte.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.add(number as u64);
    }

    /// The map takes the lowest bits for the place, and multiplication leaves them the weakest.
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, hash::Hash};

    use planner::OutletPath;

    use super::*;

    #[test]
    fn names_that_differ_in_a_digit_do_not_collide() {
        let hash = |number: u32| {
            let path: OutletPath = format!("plug-{number}").parse().unwrap();
            let mut hasher = NameHasher::default();
            path.hash(&mut hasher);
            hasher.finish()
        };
        let whole: BTreeSet<u64> = (0..1000).map(hash).collect();
        assert_eq!(whole.len(), 1000);
        let places: BTreeSet<u64> = (0..1000).map(|number| hash(number) % 1024).collect();
        assert!(places.len() > 500, "{}", places.len());
    }
}
