//! `MALLOC_CONF`.

use alloc_core::OptionVerdict;
use alloc_core::conf::{self, OPTIONS, Options};

/// Reads the bytes as options, each of which keeps to its range.
pub fn malloc_conf(bytes: &[u8]) {
    let mut options = Options::DEFAULT;
    let mut offered = 0;
    conf::apply(bytes, &mut options, &mut |key, value| {
        offered += key.len() + value.len();
        assert!(!OPTIONS.iter().any(|entry| entry.name.as_bytes() == key), "an option of the heap is not its own");
        OptionVerdict::Unknown
    });
    assert!(offered <= bytes.len());
    // Twice the same is the same.
    let mut again = Options::DEFAULT;
    conf::apply(bytes, &mut again, &mut |_, _| OptionVerdict::Unknown);
    assert_eq!((options.narenas, options.dirty_decay_ms), (again.narenas, again.dirty_decay_ms));
}
