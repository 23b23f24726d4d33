//! Options that start dumps by themselves, and those that say how many dumps are kept.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use alloc_core::OptionVerdict;
use alloc_core::conf::{clipped, number};

/// The options.
#[derive(Debug)]
pub struct Triggers {
    /// `prof_interval_ms`: milliseconds between dumps; 0: none.
    pub interval_ms: AtomicU64,
    /// `prof_rss_growth_pct`: a dump each time that resident memory has grown by so much; 0: none.
    pub growth_percent: AtomicU32,
    /// `prof_cgroup_pct`: a dump when so much of the cgroup's memory limit is used; 0: none.
    pub limit_percent: AtomicU32,
    /// `prof_signal`: a dump when this signal comes; 0: none.
    pub signal: AtomicU32,
    /// `prof_keep`: the newest dumps that are kept; [`UNSET`]: not configured.
    keep: AtomicU64,
    /// `prof_keep_largest`: beside them, those taken when most was allocated.
    keep_largest: AtomicU64,
}

const UNSET: u64 = u64::MAX;
/// Dumps of a program that writes them by the clock, unless it is configured otherwise: a forgotten timer must not fill
/// the disk.
const KEEP_TIMED: u64 = 1000;
/// The largest interval: what fits in nanoseconds.
const INTERVAL_MS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// Which of the numbered dumps are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// So many newest ones, at least 1.
    pub newest: usize,
    /// And so many of the others, those with the most allocated memory.
    pub largest: usize,
}

impl Triggers {
    /// None.
    pub const fn new() -> Self {
        Triggers {
            interval_ms: AtomicU64::new(0),
            growth_percent: AtomicU32::new(0),
            limit_percent: AtomicU32::new(0),
            signal: AtomicU32::new(0),
            keep: AtomicU64::new(UNSET),
            keep_largest: AtomicU64::new(0),
        }
    }

    /// Takes an option of `MALLOC_CONF`.
    pub fn set(&self, key: &[u8], value: &[u8]) -> Result<(), OptionVerdict> {
        match key {
            b"prof_interval_ms" => {
                self.interval_ms.store(clipped(value, 0, INTERVAL_MS_MAX, false)?, Ordering::Relaxed);
            }
            b"prof_rss_growth_pct" => {
                self.growth_percent.store(clipped(value, 0, 10_000, false)? as u32, Ordering::Relaxed);
            }
            b"prof_cgroup_pct" => {
                self.limit_percent.store(clipped(value, 0, 100, false)? as u32, Ordering::Relaxed);
            }
            b"prof_signal" => {
                self.signal.store(signal_number(value).ok_or(OptionVerdict::Invalid)?, Ordering::Relaxed);
            }
            b"prof_keep" => self.keep.store(clipped(value, 0, UNSET - 1, false)?, Ordering::Relaxed),
            b"prof_keep_largest" => {
                self.keep_largest.store(clipped(value, 0, UNSET - 1, false)?, Ordering::Relaxed);
            }
            _ => return Err(OptionVerdict::Unknown),
        }
        Ok(())
    }

    /// Whether a thread must watch for any of it.
    pub fn need_a_thread(&self) -> bool {
        self.interval_ms.load(Ordering::Relaxed) != 0
            || [&self.growth_percent, &self.limit_percent, &self.signal]
                .iter()
                .any(|option| option.load(Ordering::Relaxed) != 0)
    }

    /// `prof_keep` as it holds; 0: all are kept.
    pub fn newest_kept(&self) -> u64 {
        match self.keep.load(Ordering::Relaxed) {
            UNSET if self.interval_ms.load(Ordering::Relaxed) != 0 && self.largest_kept() == 0 => KEEP_TIMED,
            UNSET => 0,
            count => count,
        }
    }

    /// `prof_keep_largest`.
    pub fn largest_kept(&self) -> u64 {
        self.keep_largest.load(Ordering::Relaxed)
    }

    /// Which dumps are kept; `None`: all.
    pub fn keep(&self) -> Option<Keep> {
        match (self.newest_kept(), self.largest_kept()) {
            (0, 0) => None,
            // The one that has just been written is always among them.
            (newest, largest) => Some(Keep { newest: newest.max(1) as usize, largest: largest as usize }),
        }
    }
}

impl Default for Triggers {
    fn default() -> Self {
        Self::new()
    }
}

/// Signals that may ask for a dump, by name: those whose handler a program can do without. A handler for one that ends
/// programs (`SIGTERM`) would keep the process alive, and one for a fault has other work to do.
const SIGNALS: [(&[u8], u32); 9] = [
    (b"HUP", 1),
    (b"USR1", 10),
    (b"USR2", 12),
    (b"URG", 23),
    (b"VTALRM", 26),
    (b"PROF", 27),
    (b"WINCH", 28),
    (b"IO", 29),
    (b"PWR", 30),
];
/// The C library's `SIGRTMIN` and `SIGRTMAX`; those below are its own.
const REAL_TIME: core::ops::RangeInclusive<u32> = 34..=64;

/// A signal by name (`SIGUSR2`, `USR2`, `SIGRTMIN+3`) or number; `none` is 0.
fn signal_number(value: &[u8]) -> Option<u32> {
    if value == b"none" {
        return Some(0);
    }
    let name = value.strip_prefix(b"SIG").unwrap_or(value);
    let offset = |text: &[u8]| if text.is_empty() { Some(0) } else { u32::try_from(number(&text[1..])?).ok() };
    let chosen = if let Some(rest) = name.strip_prefix(b"RTMIN") {
        (rest.is_empty() || rest[0] == b'+').then(|| REAL_TIME.start().checked_add(offset(rest)?))??
    } else if let Some(rest) = name.strip_prefix(b"RTMAX") {
        (rest.is_empty() || rest[0] == b'-').then(|| REAL_TIME.end().checked_sub(offset(rest)?))??
    } else if let Some((_, number)) = SIGNALS.iter().find(|(known, _)| *known == name) {
        *number
    } else {
        u32::try_from(number(value)?).ok()?
    };
    let allowed = REAL_TIME.contains(&chosen) || SIGNALS.iter().any(|(_, number)| *number == chosen);
    allowed.then_some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        for (text, wanted) in [
            ("SIGUSR2", Some(12)),
            ("USR1", Some(10)),
            ("12", Some(12)),
            ("SIGRTMIN", Some(34)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("64", Some(64)),
            ("none", Some(0)),
            ("SIGKILL", None),
            ("9", None),
            ("SIGTERM", None),
            ("11", None),
            ("33", None),
            ("65", None),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN-1", None),
            ("SIGRTMAX-99999999999", None),
            ("", None),
            ("sigusr2", None),
        ] {
            assert_eq!(signal_number(text.as_bytes()), wanted, "{text}");
        }
    }

    #[test]
    fn kept() {
        let triggers = Triggers::new();
        assert_eq!((triggers.keep(), triggers.need_a_thread()), (None, false));
        triggers.set(b"prof_interval_ms", b"1000").unwrap();
        assert_eq!(triggers.keep(), Some(Keep { newest: 1000, largest: 0 }));
        triggers.set(b"prof_keep_largest", b"3").unwrap();
        assert_eq!(triggers.keep(), Some(Keep { newest: 1, largest: 3 }));
        triggers.set(b"prof_keep", b"5").unwrap();
        assert_eq!(triggers.keep(), Some(Keep { newest: 5, largest: 3 }));
        triggers.set(b"prof_keep_largest", b"0").unwrap();
        triggers.set(b"prof_keep", b"0").unwrap();
        assert_eq!((triggers.keep(), triggers.need_a_thread()), (None, true));
    }

    #[test]
    fn ranges() {
        use OptionVerdict::{Invalid, OutOfRange, Unknown};
        let triggers = Triggers::new();
        for (key, value, wanted) in [
            ("prof_interval_ms", "0", Ok(())),
            ("prof_interval_ms", "99999999999999999", Err(OutOfRange)),
            ("prof_interval_ms", "1s", Err(Invalid)),
            ("prof_cgroup_pct", "90", Ok(())),
            ("prof_cgroup_pct", "101", Err(OutOfRange)),
            ("prof_rss_growth_pct", "-1", Err(OutOfRange)),
            ("prof_signal", "SIGSEGV", Err(Invalid)),
            ("prof_keep", "all", Err(Invalid)),
            ("prof_other", "1", Err(Unknown)),
        ] {
            assert_eq!(triggers.set(key.as_bytes(), value.as_bytes()), wanted, "{key}:{value}");
        }
    }
}
