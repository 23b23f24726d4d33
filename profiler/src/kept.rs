//! A list of records that only grows: threads add to it and read it without a lock.

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Up to `N` records of `W` words, each with a key, which isn't 0.
#[derive(Debug)]
pub struct Kept<const N: usize, const W: usize> {
    /// Places given out; may be more than there are.
    given: AtomicUsize,
    /// 0: the record isn't there yet.
    keys: [AtomicU64; N],
    words: [[AtomicU64; W]; N],
}

impl<const N: usize, const W: usize> Kept<N, W> {
    /// None.
    pub const fn new() -> Self {
        Kept {
            given: AtomicUsize::new(0),
            keys: [const { AtomicU64::new(0) }; N],
            words: [const { [const { AtomicU64::new(0) }; W] }; N],
        }
    }

    fn used(&self) -> usize {
        // Relaxed: a place says by its key whether something is in it.
        self.given.load(Ordering::Relaxed).min(N)
    }

    /// Whether nothing is to be added: there is a record of this key, or no place left.
    pub fn has(&self, key: u64) -> bool {
        let used = self.used();
        used == N || self.keys[..used].iter().any(|known| known.load(Ordering::Relaxed) == key)
    }

    /// Adds a record, if there is room. Threads that add the same key at the same time add it twice.
    pub fn add(&self, key: u64, words: &[u64; W]) {
        if self.used() == N {
            return;
        }
        let at = self.given.fetch_add(1, Ordering::Relaxed);
        let (Some(place), Some(place_key)) = (self.words.get(at), self.keys.get(at)) else { return };
        for (to, &word) in place.iter().zip(words) {
            to.store(word, Ordering::Relaxed);
        }
        // Release: whoever reads the key sees the words.
        place_key.store(key, Ordering::Release);
    }

    /// The records, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = [u64; W]> {
        (0..self.used()).rev().filter_map(|at| {
            // Acquire: pairs with the Release in `add`.
            let is_there = self.keys[at].load(Ordering::Acquire) != 0;
            is_there.then(|| core::array::from_fn(|i| self.words[at][i].load(Ordering::Relaxed)))
        })
    }
}

impl<const N: usize, const W: usize> Default for Kept<N, W> {
    fn default() -> Self {
        Self::new()
    }
}
