//! The syntax: `key:value,key:value`.

use crate::message::warn;
use crate::observer::OptionVerdict;

use super::options::Options;
use super::table::{self, OPTIONS};
use super::value::boolean;

/// One step through a configuration string.
enum Step<'a> {
    /// Key and value.
    Pair(&'a [u8], &'a [u8]),
    /// A fault of form, and where it is.
    Fault(&'static [u8], &'a [u8]),
    End,
}

/// Takes the next pair off `rest`. A key without a value, and other characters in a key, are faults, which end the
/// string; a comma with nothing behind it is told here.
fn step<'a>(rest: &mut &'a [u8], faults: &mut bool) -> Step<'a> {
    let text = *rest;
    if text.is_empty() {
        return Step::End;
    }
    let key_length = text.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    match text.get(key_length) {
        None => {
            *rest = &[];
            Step::Fault(b"Conf string ends with key -- ", text)
        }
        Some(b':') => {
            let (key, value) = (&text[..key_length], &text[key_length + 1..]);
            let length = value.iter().position(|&b| b == b',').unwrap_or(value.len());
            let comma = length < value.len();
            *rest = value.get(length + 1..).unwrap_or(&[]);
            if comma && rest.is_empty() {
                warn(&[b"Conf string ends with comma -- ", text]);
                *faults = true;
            }
            Step::Pair(key, &value[..length])
        }
        Some(_) => {
            *rest = &[];
            Step::Fault(b"Malformed conf string -- ", &text[..=key_length])
        }
    }
}

/// The first pass: only `confirm_conf`; faults of form are told here too, as jemalloc does.
pub(super) fn scan_for_confirm(text: &[u8], options: &mut Options) {
    let mut rest = text;
    loop {
        match step(&mut rest, &mut false) {
            Step::Pair(b"confirm_conf", value) => {
                if let Some(on) = boolean(value) {
                    options.confirm_conf = on;
                }
            }
            Step::Pair(..) => {}
            Step::Fault(what, at) => return warn(&[what, at]),
            Step::End => return,
        }
    }
}

/// The second pass. Returns whether something was wrong.
pub(super) fn apply(text: &[u8], options: &mut Options, offer: &mut dyn FnMut(&[u8], &[u8]) -> OptionVerdict) -> bool {
    let mut faults = false;
    let mut rest = text;
    loop {
        match step(&mut rest, &mut faults) {
            Step::Pair(key, value) => {
                let entry = OPTIONS.iter().find(|entry| entry.name.as_bytes() == key);
                let verdict = match entry {
                    Some(entry) => table::set(entry, options, value),
                    None => offer(key, value),
                };
                if verdict == OptionVerdict::Accepted {
                    if options.confirm_conf {
                        warn(&[b"-- Set conf value: ", key, b":", value]);
                        if entry.is_some_and(|entry| !entry.has_effect) {
                            warn(&[b"-- ", key, b" has no effect in heapsift"]);
                        }
                    }
                } else {
                    tell(verdict, key, value);
                    // jemalloc never counts these as errors.
                    faults |= !key.starts_with(b"experimental_") && !FORGIVEN.contains(&key);
                }
            }
            Step::Fault(what, at) => {
                warn(&[what, at]);
                return true;
            }
            Step::End => return faults,
        }
    }
}

/// Options that jemalloc once had: told, but no reason to stop.
const FORGIVEN: [&[u8]; 2] = [b"hpa_sec_bytes_after_flush", b"hpa_sec_batch_fill_extra"];

fn tell(verdict: OptionVerdict, key: &[u8], value: &[u8]) {
    match verdict {
        OptionVerdict::Accepted => {}
        OptionVerdict::Unknown => warn(&[b"Invalid conf pair: ", key, b":", value]),
        OptionVerdict::Invalid => warn(&[b"Invalid conf value: ", key, b":", value]),
        OptionVerdict::OutOfRange => warn(&[b"Out-of-range conf value: ", key, b":", value]),
        OptionVerdict::InvalidSettings => warn(&[b"Invalid settings for ", key, b": ", key, b":", value]),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::super::options::{UNSET, ZeroRealloc};
    use super::*;
    use core::sync::atomic::{AtomicUsize, Ordering};

    fn nobody(_: &[u8], _: &[u8]) -> OptionVerdict {
        OptionVerdict::Unknown
    }

    fn read(text: &str) -> (Options, bool) {
        let mut options = Options::DEFAULT;
        let faults = apply(text.as_bytes(), &mut options, &mut nobody);
        (options, faults)
    }

    #[test]
    fn values() {
        let (options, faults) = read("narenas:0x3,dirty_decay_ms:-1,tcache_max:010,retain:false,zero_realloc:abort");
        assert!(!faults);
        assert_eq!((options.narenas, options.dirty_decay_ms, options.tcache_max), (3, -1, 8));
        assert!(!options.retain);
        assert_eq!(options.zero_realloc, ZeroRealloc::Abort);
        // Clipped in silence.
        assert_eq!(read("tcache_max:99999999").0.tcache_max, crate::size::CACHED_MAX);
        assert_eq!(read("lg_tcache_max:99").0.tcache_max, crate::size::CACHED_MAX);
        assert_eq!(read("max_background_threads:0").0.max_background_threads, 1);
        assert_eq!(read("hpa_purge_threshold_ratio:0.5").0.hpa.purge_threshold, 1 << 20);
        assert!(read("thp:always").0.thp.is(c"always"));
        assert_eq!(read("stats_print_opts:JJg?b").0.stats_print_opts.text(), c"Jgb");
    }

    #[test]
    fn values_by_class() {
        let (options, faults) =
            read("bin_shards:1-160:16|129-512:4,slab_sizes:100-128:4,tcache_ncached_max:256-1024:1001|2048-99999:0");
        assert!(!faults);
        assert_eq!(options.bin_shards[1..=17], [16, 16, 16, 16, 16, 16, 16, 16, 16, 4, 4, 4, 4, 4, 4, 4, 4]);
        assert_eq!(options.bin_shards[18], UNSET);
        assert_eq!(options.slab_sizes[7..=10], [UNSET, 4, 4, UNSET]);
        assert_eq!((options.tcache_ncached_max[12], options.tcache_ncached_max[13]), (UNSET, 1001));
        assert_eq!((options.tcache_ncached_max[25], options.tcache_ncached_max[41]), (0, 0));
    }

    #[test]
    fn faults() {
        for text in [
            "narenas:0",
            "prof:yes",
            "foo:bar",
            "narenas",
            "zero:true,",
            "narenas:19k",
            "a b:1",
            "dirty_decay_ms:-2",
            ":",
            "zero:TRUE",
            "bin_shards:1-160:65",
            "bin_shards:1-160",
            "slab_sizes:1-2:3||",
            "tcache_ncached_max:x",
            "hpa_dirty_mult:much",
            "thp:nev",
            ",zero:true",
        ] {
            assert!(read(text).1, "{text}");
        }
        for text in ["", "zero:true", "experimental_thing:1", "hpa_sec_batch_fill_extra:1", "hpa:true"] {
            assert!(!read(text).1, "{text}");
        }
    }

    #[test]
    fn unknown_pairs_are_offered() {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        let mut options = Options::DEFAULT;
        let faults = apply(b"prof:true,lg_prof_sample:12", &mut options, &mut |key, value| {
            assert!((key, value) == (b"prof", b"true") || (key, value) == (b"lg_prof_sample", b"12"));
            SEEN.fetch_add(1, Ordering::Relaxed);
            OptionVerdict::Accepted
        });
        assert!(!faults);
        assert_eq!(SEEN.load(Ordering::Relaxed), 2);
    }
}
