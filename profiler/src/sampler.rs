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
    /// Number of that name, plus 1; 0: none.
    pub const NAME_ID: usize = 3;
    /// Choices of the program for this thread, see [`super::choice`].
    pub const CHOICES: usize = 4;
    /// The generation of the settings that the present wait was drawn under; another than that of now: it is void.
    pub const DRAWN: usize = 5;
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

/// Where the random numbers of a process start; 0: not chosen yet.
#[derive(Debug)]
pub struct Seed(AtomicU64);

impl Seed {
    /// None yet.
    pub const fn new() -> Self {
        Seed(AtomicU64::new(0))
    }

    /// A new one, when profiling is switched on: made of `chosen` (`prof_seed`), or a random one.
    pub fn set(&self, chosen: Option<u64>) {
        self.0.store(chosen.map_or_else(extra::random, mix) | 1, Ordering::Relaxed);
    }

    /// A new one in the child of a fork, whose only thread has `slot`. A chosen one gives the same child the same waits
    /// in each run, others than its parent's, and others than those of children forked at other moments.
    pub fn set_in_child(&self, chosen: Option<u64>, slot: Option<&mut ThreadSlot>) {
        let drawn = slot.map_or(0, |slot| slot.words[word::RANDOM] as u64);
        self.set(chosen.map(|_| mix(self.0.load(Ordering::Relaxed) ^ drawn)));
    }

    /// The next 64 random bits of a thread (splitmix64).
    fn random(&self, slot: &mut ThreadSlot) -> u64 {
        let seed = self.0.load(Ordering::Relaxed);
        let state = &mut slot.words[word::RANDOM];
        if *state == 0 {
            *state = first_state(seed, slot.uid);
        }
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        // With the process's seed, so that the child of a fork doesn't go on with its parent's numbers.
        mix(*state as u64 ^ seed)
    }
}

impl Default for Seed {
    fn default() -> Self {
        Self::new()
    }
}

#[cold]
fn first_state(seed: u64, uid: u64) -> usize {
    let seed = if seed == 0 { extra::random() } else { seed };
    mix(seed ^ uid.wrapping_mul(0xa24b_aed4_963e_e407)) as usize | 1
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// What the computation of a wait takes from memory: one cache line, which it asks for once. The compiler would strew
/// these numbers over as many lines as there are, each of which a sample found in no cache.
#[repr(C, align(64))]
struct Numbers {
    /// The coefficients of ln((1 + s) / (1 − s)) = 2s + s³ (2/3 + 2/5 s² + …). With |s| ≤ 3 − √8, what is left out is less
    /// than one part in 10^10.
    terms: [f64; 5],
    ln_2: f64,
    one: f64,
}

static NUMBERS: Numbers = Numbers {
    terms: [2.0 / 3.0, 2.0 / 5.0, 2.0 / 7.0, 2.0 / 9.0, 2.0 / 11.0],
    ln_2: core::f64::consts::LN_2,
    one: 1.0,
};

/// The numbers, whose values the compiler doesn't see.
#[inline]
fn numbers() -> &'static Numbers {
    let numbers: *const Numbers;
    // SAFETY: computes an address.
    unsafe {
        core::arch::asm!("lea {}, [rip + {}]", out(reg) numbers, sym NUMBERS,
                         options(pure, nomem, nostack, preserves_flags));
    }
    // SAFETY: the static above.
    unsafe { &*numbers }
}

/// −ln(units / 2^53) for units from 1 to 2^53, with a relative error below 10^−10: as exact for the short waits of which
/// small blocks are sampled as for all others.
#[inline]
fn minus_ln(units: u64, numbers: &Numbers) -> f64 {
    // units = 2^exponent · m with m in [√½, √2).
    let bits = (units.cast_signed() as f64).to_bits();
    let exponent = bits.wrapping_sub(core::f64::consts::FRAC_1_SQRT_2.to_bits()).cast_signed() >> 52;
    let m = f64::from_bits(bits.wrapping_sub((exponent << 52).cast_unsigned()));
    // m = (1 + s) / (1 − s).
    let s = (m - numbers.one) / (m + numbers.one);
    let square = s * s;
    let rest = numbers.terms.iter().rev().fold(0.0, |sum, term| sum * square + term);
    // exponent ≤ 53, and s ≤ 0 where it is 53: nothing cancels.
    (53 - exponent) as f64 * numbers.ln_2 - (s + s + s * square * rest)
}

/// The whole bytes until the next sampling point at a mean distance of `interval` bytes: ⌊−ln(u) · interval⌋ with u in
/// (0, 1]. A block of s bytes is sampled when the wait is below s, with probability 1 − exp(−s / interval).
#[inline]
pub fn wait(slot: &mut ThreadSlot, seed: &Seed, interval: u64) -> u64 {
    if interval <= 1 {
        return 0;
    }
    // 53 random bits; 1 to 2^53, so that the logarithm is finite, and at most 37.
    let units = (seed.random(slot) >> 11) + 1;
    let bytes = minus_ln(units, numbers()) * interval.min(NEVER).cast_signed() as f64;
    if interval > NEVER / 64 && bytes >= (NEVER - 1) as f64 {
        return NEVER - 1;
    }
    // SAFETY: not negative, and below 2^63.
    unsafe { bytes.to_int_unchecked::<i64>() }.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_exact() {
        let near = |units: u64| {
            let (ours, exact) = (minus_ln(units, &NUMBERS), -(units as f64 / (1u64 << 53) as f64).ln());
            assert!((ours - exact).abs() <= 1e-10 * exact, "{units}: {ours} {exact}");
        };
        for power in 0..=52 {
            let units = 1u64 << power;
            let root = (units as f64 * core::f64::consts::SQRT_2) as u64;
            [units, units + 1, units * 5 / 4, root, root + 1, units * 3 / 2, units * 2 - 1, units * 2]
                .iter()
                .for_each(|&units| near(units));
        }
        let (mut slot, seed) = (slot(5), Seed::new());
        for _ in 0..100_000 {
            near((seed.random(&mut slot) >> 11) + 1);
        }
        assert_eq!(minus_ln(1 << 53, &NUMBERS), 0.0);
    }

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
                assert!(wait(&mut slot, &Seed::new(), interval) < NEVER);
            }
        }
        // At one byte or less between samples every block is one: probability 1 is what a dump reckons with.
        assert_eq!(wait(&mut slot, &Seed::new(), 1), 0);
    }

    #[test]
    fn a_new_seed_changes_the_numbers() {
        let (mut parent, mut child) = (slot(7), slot(7));
        let draw = |slot: &mut ThreadSlot, seed: u64| wait(slot, &Seed(AtomicU64::new(seed)), 1 << 40);
        assert_ne!(draw(&mut parent, 1), draw(&mut child, 2));
    }

    #[test]
    fn a_chosen_seed_gives_the_same_numbers() {
        let draw = |chosen: u64, uid: u64| {
            let seed = Seed::new();
            seed.set(Some(chosen));
            let mut slot = ThreadSlot { uid, ..slot(0) };
            [(); 4].map(|()| wait(&mut slot, &seed, 1 << 40))
        };
        assert_eq!(draw(5, 1), draw(5, 1));
        assert_ne!(draw(5, 1), draw(5, 2));
        assert_ne!(draw(5, 1), draw(6, 1));
        let child = |chosen: u64, drawn: usize| {
            let seed = Seed::new();
            seed.set(Some(chosen));
            seed.set_in_child(Some(chosen), Some(&mut slot(drawn)));
            seed.0.into_inner()
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
            let sum: u64 = (0..n).map(|_| wait(&mut slot, &Seed::new(), interval)).sum();
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
            let hits = (0..n).filter(|_| wait(&mut slot, &Seed::new(), interval) < size).count() as f64;
            let p = 1.0 - (-(size as f64) / interval as f64).exp();
            let error = (p * (1.0 - p) * n as f64).sqrt().max(1.0);
            assert!((hits - p * n as f64).abs() < 4.0 * error, "{size}: {hits} of {n}, expected {}", p * n as f64);
        }
    }
}
