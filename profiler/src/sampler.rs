//! When to sample: waits drawn from an exponential distribution, so that each byte is a sampling point with the same
//! small probability, independently of all others.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc_core::ThreadSlot;
use alloc_core::sys::extra;

/// A wait that never ends.
pub const NEVER: u64 = i64::MAX as u64;

/// Words of a [`ThreadSlot`] and what they hold.
pub mod word {
    /// State of the random numbers; 0: not seeded.
    pub const RANDOM: usize = 0;
    /// The thread's stack (`unwind::Stack`), or how many samples the thread has had, while it isn't looked for.
    pub const STACK: usize = 1;
    /// Ticks of the processor when the thread's name was last read.
    pub const READ: usize = 2;
    /// Bytes allocated less bytes freed, as told to the watch for peaks.
    pub const TOLD: usize = 3;
    /// Number of that name, plus 1; 0: none.
    pub const NAME_ID: usize = 4;
    /// Choices of the program for this thread, see [`super::choice`].
    pub const CHOICES: usize = 5;
    /// Twice the generation of the settings that the present wait was drawn under; odd: the wait before was drawn under
    /// older ones.
    pub const DRAWN: usize = 6;
}

/// Bits of [`word::CHOICES`].
pub mod choice {
    /// `thread.prof.active` was set to true.
    pub const ACTIVE: usize = 1;
    /// `thread.prof.active` was set to false.
    pub const INACTIVE: usize = 2;
    /// `thread.prof.name` was set: the kernel's name no longer counts.
    pub const NAMED: usize = 4;
}

static SEED: AtomicU64 = AtomicU64::new(0);

/// A new seed for the process when profiling is switched on: `chosen` (`prof_seed`), or a random one.
pub fn seed(chosen: Option<u64>) {
    SEED.store(chosen.map_or_else(extra::random, mix) | 1, Ordering::Relaxed);
}

/// A new seed in the child of a fork, whose only thread has `slot`. A chosen one gives the same child the same waits
/// in each run, others than its parent's, and others than those of children forked at other moments.
pub fn seed_child(chosen: Option<u64>, slot: Option<&mut ThreadSlot>) {
    let drawn = slot.map_or(0, |slot| slot.words[word::RANDOM] as u64);
    seed(chosen.map(|_| mix(SEED.load(Ordering::Relaxed) ^ drawn)));
}

/// The next 64 random bits of a thread (splitmix64).
fn random(slot: &mut ThreadSlot) -> u64 {
    let state = &mut slot.words[word::RANDOM];
    if *state == 0 {
        let seed = SEED.load(Ordering::Relaxed);
        let seed = if seed == 0 { extra::random() } else { seed };
        *state = mix(seed ^ slot.uid.wrapping_mul(0xa24b_aed4_963e_e407)) as usize | 1;
    }
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    // With the process's seed, so that the child of a fork doesn't go on with its parent's numbers.
    mix(*state as u64 ^ SEED.load(Ordering::Relaxed))
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// The whole bytes until the next sampling point at a mean distance of `interval` bytes: ⌊−ln(u) · interval⌋ with u in
/// (0, 1]. A block of s bytes is sampled when the wait is below s, with probability 1 − exp(−s / interval).
pub fn wait(slot: &mut ThreadSlot, interval: u64) -> u64 {
    if interval <= 1 {
        return 0;
    }
    // 53 random bits; 1 to 2^53, so that the logarithm is finite.
    let u = ((random(slot) >> 11) + 1) as f64 * (1.0 / (1u64 << 53) as f64);
    let bytes = -libm::log(u) * interval as f64;
    if bytes >= (NEVER - 1) as f64 { NEVER - 1 } else { bytes as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process has one seed: tests that set it take turns.
    static SEEDS: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn slot(seed: usize) -> ThreadSlot {
        let mut slot = ThreadSlot { uid: 1, words: [0; 7] };
        slot.words[word::RANDOM] = seed;
        slot
    }

    #[test]
    fn extremes() {
        let mut slot = slot(3);
        for interval in [1, 2, u64::MAX >> 1] {
            for _ in 0..1000 {
                assert!(wait(&mut slot, interval) < NEVER);
            }
        }
        // At one byte or less between samples every block is one: probability 1 is what a dump reckons with.
        assert_eq!(wait(&mut slot, 1), 0);
    }

    #[test]
    fn a_new_seed_changes_the_numbers() {
        let _guard = SEEDS.lock().unwrap();
        let (mut parent, mut child) = (slot(7), slot(7));
        SEED.store(1, Ordering::Relaxed);
        let before = wait(&mut parent, 1 << 40);
        SEED.store(2, Ordering::Relaxed);
        assert_ne!(before, wait(&mut child, 1 << 40));
    }

    #[test]
    fn a_chosen_seed_gives_the_same_numbers() {
        let draw = |chosen: u64, uid: u64| {
            seed(Some(chosen));
            let mut slot = ThreadSlot { uid, ..slot(0) };
            [(); 4].map(|()| wait(&mut slot, 1 << 40))
        };
        // Other tests use the same seed of the process: only this one thread's draws are compared.
        let _guard = SEEDS.lock().unwrap();
        assert_eq!(draw(5, 1), draw(5, 1));
        assert_ne!(draw(5, 1), draw(5, 2));
        assert_ne!(draw(5, 1), draw(6, 1));
        let child = |chosen: u64, drawn: usize| {
            seed(Some(chosen));
            seed_child(Some(chosen), Some(&mut slot(drawn)));
            SEED.load(Ordering::Relaxed)
        };
        assert_eq!(child(5, 7), child(5, 7));
        assert_ne!(child(5, 7), child(5, 8));
        assert_ne!(child(5, 7), mix(5) | 1);
    }

    #[test]
    fn mean_is_the_interval() {
        let mut slot = slot(7);
        for interval in [1u64 << 12, 1 << 19, 1_000_003] {
            let n = 200_000u64;
            let sum: u64 = (0..n).map(|_| wait(&mut slot, interval)).sum();
            let mean = sum as f64 / n as f64;
            // The standard deviation of an exponential is its mean.
            let error = interval as f64 / (n as f64).sqrt();
            assert!((mean - interval as f64).abs() < 4.0 * error, "{interval}: {mean}");
        }
    }

    #[test]
    fn probability_by_size() {
        let mut slot = slot(99);
        let interval = 512u64 << 10;
        for size in [16u64, 4096, 100_000, 512 << 10, 4 << 20] {
            let n = 300_000;
            let hits = (0..n).filter(|_| wait(&mut slot, interval) < size).count() as f64;
            let p = 1.0 - (-(size as f64) / interval as f64).exp();
            let error = (p * (1.0 - p) * n as f64).sqrt().max(1.0);
            assert!((hits - p * n as f64).abs() < 4.0 * error, "{size}: {hits} of {n}, expected {}", p * n as f64);
        }
    }
}
