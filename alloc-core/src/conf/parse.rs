//! The syntax: `key:value,key:value`.

use crate::message::warn;
use crate::observer::OptionVerdict;

use super::Options;
use super::table::{Field, OPTIONS, Option as Entry};

/// One step through a configuration string.
enum Step<'a> {
    Pair(&'a [u8], &'a [u8]),
    Fault(&'static [u8], &'a [u8]),
    End,
}

/// Takes the next pair off `rest`. A comma at the end, a key without a value, and other characters in a key are
/// faults; all but the first end the string.
fn step<'a>(rest: &mut &'a [u8]) -> Step<'a> {
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
            *rest = value.get(length + 1..).unwrap_or(&[]);
            Step::Pair(key, &value[..length])
        }
        Some(_) => {
            *rest = &[];
            Step::Fault(b"Malformed conf string -- ", text)
        }
    }
}

fn ends_with_comma(text: &[u8]) -> bool {
    text.last() == Some(&b',')
}

/// The first pass: only `confirm_conf`; faults of form are told here too, as jemalloc does.
pub(super) fn scan_for_confirm(text: &[u8], options: &mut Options) {
    let mut rest = text;
    loop {
        match step(&mut rest) {
            Step::Pair(b"confirm_conf", value) => {
                if let Some(on) = boolean(value) {
                    options.confirm_conf = on;
                }
            }
            Step::Pair(..) => {}
            Step::Fault(what, at) => warn(&[what, at]),
            Step::End => break,
        }
    }
    if ends_with_comma(text) {
        warn(&[b"Conf string ends with comma -- ", text]);
    }
}

/// The second pass. Returns whether something was wrong.
pub(super) fn apply(
    text: &[u8],
    options: &mut Options,
    offer: &mut dyn FnMut(&[u8], &[u8]) -> OptionVerdict,
) -> bool {
    let mut faults = false;
    let mut rest = text;
    loop {
        match step(&mut rest) {
            Step::Pair(key, value) => {
                let verdict = match OPTIONS.iter().find(|option| option.name.as_bytes() == key) {
                    Some(entry) => set(entry, options, value),
                    None => offer(key, value),
                };
                let what: &[u8] = match verdict {
                    OptionVerdict::Accepted => {
                        if options.confirm_conf {
                            warn(&[b"-- Set conf value: ", key, b":", value]);
                        }
                        continue;
                    }
                    OptionVerdict::Unknown => b"Invalid conf pair: ",
                    OptionVerdict::Invalid => b"Invalid conf value: ",
                    OptionVerdict::OutOfRange => b"Out-of-range conf value: ",
                };
                warn(&[what, key, b":", value]);
                // jemalloc never counts these as errors.
                faults |= !key.starts_with(b"experimental_");
            }
            Step::Fault(what, at) => {
                warn(&[what, at]);
                faults = true;
            }
            Step::End => break,
        }
    }
    if ends_with_comma(text) {
        warn(&[b"Conf string ends with comma -- ", text]);
        faults = true;
    }
    faults
}

fn set(entry: &Entry, options: &mut Options, value: &[u8]) -> OptionVerdict {
    match entry.field {
        Field::Bool(field) => match boolean(value) {
            Some(on) => {
                *field(options) = on;
                OptionVerdict::Accepted
            }
            None => OptionVerdict::Invalid,
        },
        Field::Unsigned { field, min, max, clip } => {
            clipped(value, min.into(), max.into(), clip).map_or_else(|verdict| verdict, |n| {
                *field(options) = n as u32;
                OptionVerdict::Accepted
            })
        }
        Field::Size { field, min, max, clip } => {
            clipped(value, min as u64, max as u64, clip).map_or_else(|verdict| verdict, |n| {
                *field(options) = n as usize;
                OptionVerdict::Accepted
            })
        }
        Field::Signed { field, min, max } => match signed(value) {
            None => OptionVerdict::Invalid,
            Some(n) if n < min || n > max => OptionVerdict::OutOfRange,
            Some(n) => {
                *field(options) = n;
                OptionVerdict::Accepted
            }
        },
        Field::Special(parse) => parse(options, value),
    }
}

/// `true` or `false`, nothing else.
pub fn boolean(value: &[u8]) -> Option<bool> {
    match value {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// An unsigned number as `strtoumax` with base 0 reads it: decimal, `0x` hexadecimal, leading-0 octal. The whole value
/// must be used up.
pub fn number(value: &[u8]) -> Option<u64> {
    let (digits, base) = match value {
        [b'0', b'x' | b'X', rest @ ..] => (rest, 16),
        [b'0', rest @ ..] if !rest.is_empty() => (rest, 8),
        _ => (value, 10),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |n, &b| {
        let digit = (b as char).to_digit(base)?;
        n.checked_mul(base.into())?.checked_add(digit.into())
    })
}

/// A signed number.
pub fn signed(value: &[u8]) -> Option<i64> {
    match value {
        [b'-', rest @ ..] => i64::try_from(number(rest)?).ok().map(|n| -n),
        _ => i64::try_from(number(value)?).ok(),
    }
}

/// A number within bounds, clipped to them or refused.
pub fn clipped(value: &[u8], min: u64, max: u64, clip: bool) -> Result<u64, OptionVerdict> {
    let n = number(value).ok_or(OptionVerdict::Invalid)?;
    if clip {
        Ok(n.clamp(min, max))
    } else if (min..=max).contains(&n) {
        Ok(n)
    } else {
        Err(OptionVerdict::OutOfRange)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
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
        assert_eq!(options.zero_realloc, super::super::ZeroRealloc::Abort);
        // Clipped in silence.
        assert_eq!(read("tcache_max:99999999").0.tcache_max, crate::size::CACHED_MAX);
    }

    #[test]
    fn faults() {
        for text in
            ["narenas:0", "prof:yes", "foo:bar", "narenas", "zero:true,", "narenas:19k", "a b:1", "dirty_decay_ms:-2", ":", "zero:TRUE"]
        {
            assert!(read(text).1, "{text}");
        }
        for text in ["", "zero:true", "experimental_thing:1"] {
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
