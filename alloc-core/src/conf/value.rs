//! Values of options: booleans, numbers, fixed point, settings by ranges of sizes.

use crate::observer::OptionVerdict;

/// `true` or `false`, nothing else.
pub fn boolean(value: &[u8]) -> Option<bool> {
    match value {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

/// A number as `strtoumax` with base 0 reads it: white space, a sign, then decimal, `0x` hexadecimal or leading-0
/// octal digits to the end. The magnitude, and whether there was a minus sign.
fn magnitude(value: &[u8]) -> Option<(u64, bool)> {
    let value = value.trim_ascii_start();
    let (value, negative) = match value {
        [b'-', rest @ ..] => (rest, true),
        [b'+', rest @ ..] => (rest, false),
        _ => (value, false),
    };
    let (digits, base) = match value {
        [b'0', b'x' | b'X', rest @ ..] => (rest, 16),
        [b'0', rest @ ..] if !rest.is_empty() => (rest, 8),
        _ => (value, 10),
    };
    if digits.is_empty() {
        return None;
    }
    let number = digits.iter().try_fold(0u64, |n, &b| {
        let digit = (b as char).to_digit(base)?;
        n.checked_mul(base.into())?.checked_add(digit.into())
    })?;
    Some((number, negative))
}

/// An unsigned number; one with a minus sign is none.
pub fn number(value: &[u8]) -> Option<u64> {
    magnitude(value).and_then(|(n, negative)| (!negative).then_some(n))
}

/// A number of 64 bits; a minus sign wraps it around, as `strtoumax` has it.
pub(super) fn wrapped(value: &[u8]) -> Option<u64> {
    magnitude(value).map(|(n, negative)| if negative { n.wrapping_neg() } else { n })
}

/// A number of bytes: a number, and perhaps K, M, G or T (powers of 1024), with or without `B` or `iB`.
pub fn bytes(value: &[u8]) -> Option<u64> {
    let length = value.iter().rev().take_while(|b| b"KkMmGgTtBbi".contains(b)).count();
    // In a hexadecimal number the letter is a digit.
    let length = if value.starts_with(b"0x") || value.starts_with(b"0X") { 0 } else { length };
    let (digits, unit) = value.split_at(value.len() - length);
    if digits.starts_with(b"-") {
        // As C reads it, that is a number near 2^64.
        return None;
    }
    let shift = match unit.split_first() {
        None => 0,
        Some((b'B' | b'b', [])) => 0,
        Some((letter, b"" | b"B" | b"b" | b"iB" | b"ib")) => match letter.to_ascii_uppercase() {
            b'K' => 10,
            b'M' => 20,
            b'G' => 30,
            b'T' => 40,
            _ => return None,
        },
        _ => return None,
    };
    number(digits)?.checked_mul(1 << shift)
}

/// A signed number.
pub fn signed(value: &[u8]) -> Option<i64> {
    wrapped(value).map(u64::cast_signed)
}

/// A number within bounds, clipped to them or refused. One with a minus sign is a very large one.
pub fn clipped(value: &[u8], min: u64, max: u64, clip: bool) -> Result<u64, OptionVerdict> {
    let n = wrapped(value).ok_or(OptionVerdict::Invalid)?;
    if clip {
        Ok(n.clamp(min, max))
    } else if (min..=max).contains(&n) {
        Ok(n)
    } else {
        Err(OptionVerdict::OutOfRange)
    }
}

/// A number with a fraction, `12.5`, in 16.16 fixed point, rounded down; at most 65535 before the point.
pub fn fixed_point(value: &[u8]) -> Option<u32> {
    let mut parts = value.splitn(2, |&b| b == b'.');
    let (whole, fraction) = (parts.next()?, parts.next());
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if !digits(whole) || !fraction.is_none_or(digits) || (whole.is_empty() && fraction.is_none_or(<[u8]>::is_empty)) {
        return None;
    }
    if fraction.is_some_and(<[u8]>::is_empty) {
        return None;
    }
    let whole = whole.iter().try_fold(0u32, |n, b| {
        let n = n * 10 + u32::from(b - b'0');
        (n <= 0xffff).then_some(n)
    })?;
    // Digits beyond the fourteenth are worth less than 2^-16.
    let (mut part, mut unit) = (0u64, 1u64);
    for b in fraction.unwrap_or(b"").iter().take(14) {
        part = part * 10 + u64::from(b - b'0');
        unit *= 10;
    }
    Some(whole << 16 | ((u128::from(part) << 16) / u128::from(unit)) as u32)
}

/// One range of sizes and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Smallest size, in bytes.
    pub start: usize,
    /// Largest size, in bytes.
    pub end: usize,
    /// The value for these.
    pub value: usize,
}

/// Settings by ranges of sizes, `1-4096:17|100-200:1`; `None` stands for a fault of form, which ends them.
pub fn ranges(value: &[u8]) -> impl Iterator<Item = Option<Range>> + '_ {
    let mut rest = Some(value);
    core::iter::from_fn(move || {
        let text = rest?;
        let end = text.iter().position(|&b| b == b'|');
        let item = range(&text[..end.unwrap_or(text.len())]);
        rest = match (end, item) {
            // Nothing behind the last bar is no fault, as in jemalloc.
            (Some(end), Some(_)) if end + 1 < text.len() => Some(&text[end + 1..]),
            _ => None,
        };
        Some(item)
    })
}

fn range(text: &[u8]) -> Option<Range> {
    let decimal = |digits: &[u8]| {
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        number(digits).map(|n| n as usize)
    };
    let dash = text.iter().position(|&b| b == b'-')?;
    let colon = text.iter().position(|&b| b == b':')?;
    Some(Range {
        start: decimal(text.get(..dash)?)?,
        end: decimal(text.get(dash + 1..colon)?)?,
        value: decimal(text.get(colon + 1..)?)?,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    #[test]
    fn numbers() {
        for (text, want) in [
            ("0", Some(0)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            (" 4", Some(4)),
            ("+4", Some(4)),
            ("-1", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("0x", None),
            ("08", None),
            ("19k", None),
            ("--1", None),
            ("4 ", None),
        ] {
            assert_eq!(number(text.as_bytes()), want, "{text}");
        }
        assert_eq!(signed(b"-0x10"), Some(-16));
        assert_eq!(clipped(b"-1", 0, 9, true), Ok(9));
        assert_eq!(clipped(b"10", 0, 9, false), Err(OptionVerdict::OutOfRange));
    }

    #[test]
    fn fractions() {
        for (text, want) in [
            ("4", Some(4 << 16)),
            ("0.5", Some(1 << 15)),
            (".25", Some(1 << 14)),
            ("0.3", Some(19660)),
            ("0.99999999999999999999", Some(65535)),
            ("65536", None),
            ("1.", None),
            (".", None),
            ("", None),
            ("-1", None),
            ("1.2.3", None),
        ] {
            assert_eq!(fixed_point(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn settings_by_size() {
        let all: Vec<_> = ranges(b"1-4096:17|100-200:1").collect();
        let range = |start, end, value| Some(Range { start, end, value });
        assert_eq!(all, [range(1, 4096, 17), range(100, 200, 1)]);
        assert_eq!(ranges(b"1-2:3|").collect::<Vec<_>>(), [range(1, 2, 3)]);
        for bad in ["", "1", "1-2", "1-2:", "1-:3", "-2:3", "x-2:3", "1:2-3", "1-2:3||", "1-2:-3"] {
            assert!(ranges(bad.as_bytes()).any(|item| item.is_none()), "{bad}");
        }
    }
}
