//! Numbers with units, written as `go tool pprof` writes them: powers of 1024 as kB, MB, …; two
//! digits after the point unless they are zeros; percentages of at least two digits.
//!
//! A unit that is none of the known ones comes from the file as it is, and is made harmless where it is written.
//!
//! The rules are pprof's so that the two tools' tables can be laid side by side.

use crate::escape;

/// One unit of a family, with the spellings that are understood.
struct Unit {
    name: &'static str,
    aliases: &'static [&'static str],
    factor: f64,
}

const fn unit(name: &'static str, aliases: &'static [&'static str], factor: f64) -> Unit {
    Unit { name, aliases, factor }
}

/// Units that convert into each other; `default` is used when a value is below the smallest one.
struct Family {
    units: &'static [Unit],
    default: (&'static str, f64),
}

const KIB: f64 = 1024.0;

static FAMILIES: [Family; 2] = [
    Family {
        units: &[
            unit("B", &["b", "byte"], 1.0),
            unit("kB", &["kb", "kbyte", "kilobyte", "kib"], KIB),
            unit("MB", &["mb", "mbyte", "megabyte", "mib"], KIB * KIB),
            unit("GB", &["gb", "gbyte", "gigabyte", "gib"], KIB * KIB * KIB),
            unit("TB", &["tb", "tbyte", "terabyte", "tib"], KIB * KIB * KIB * KIB),
            unit("PB", &["pb", "pbyte", "petabyte", "pib"], KIB * KIB * KIB * KIB * KIB),
        ],
        default: ("B", 1.0),
    },
    Family {
        units: &[
            unit("ns", &["ns", "nanosecond"], 1.0),
            unit("us", &["μs", "us", "microsecond"], 1e3),
            unit("ms", &["ms", "millisecond"], 1e6),
            unit("s", &["s", "sec", "second"], 1e9),
            unit("hrs", &["hour", "hr"], 3600e9),
        ],
        default: ("s", 1e9),
    },
];

impl Family {
    fn find(&self, spelled: &str) -> Option<&Unit> {
        let mut lower = spelled.to_lowercase();
        if lower.len() > 2 && lower.ends_with('s') {
            lower.pop();
        }
        self.units.iter().find(|unit| unit.aliases.contains(&lower.as_str()))
    }
}

/// Converts `value` from one unit to another. `auto` and `minimum` choose the largest unit in which
/// the value is at least 1. Returns the unit to print, empty where there is nothing to say.
pub fn scale(value: i128, from: &str, to: &str) -> (f64, String) {
    if value < 0 {
        let (scaled, unit) = scale(value.saturating_neg(), from, to);
        return (-scaled, unit);
    }
    for family in &FAMILIES {
        let Some(source) = family.find(from) else {
            continue;
        };
        let base = value as f64 * source.factor;
        if matches!(to, "auto" | "minimum") {
            let best = family.units.iter().rev().find(|unit| base / unit.factor >= 1.0);
            return match best {
                Some(unit) => (base / unit.factor, unit.name.to_owned()),
                None => (base / family.default.1, family.default.0.to_owned()),
            };
        }
        return match family.find(to) {
            Some(unit) => (base / unit.factor, unit.name.to_owned()),
            None => (base / family.default.1, family.default.0.to_owned()),
        };
    }
    match to {
        "count" | "sample" | "unit" | "minimum" | "auto" => (value as f64, String::new()),
        _ => (value as f64, to.to_owned()),
    }
}

/// The value with its unit: `12.06MB`, `3kB`, `0`.
pub fn label(value: i128, from: &str, to: &str) -> String {
    let (scaled, unit) = scale(value, from, to);
    let text = format!("{scaled:.2}");
    let text = text.strip_suffix(".00").unwrap_or(&text);
    if text == "0" || text == "-0" {
        return "0".to_owned();
    }
    format!("{text}{}", escape::terminal(&unit))
}

/// The value times a ratio, cut to a whole number as pprof does it.
pub fn times(value: i128, ratio: f64) -> i128 {
    if ratio > 0.0 && ratio != 1.0 { (value as f64 * ratio) as i128 } else { value }
}

/// The value with its sign, for changes: `+12.06MB`.
pub fn signed_label(value: i128, from: &str, to: &str) -> String {
    let text = label(value, from, to);
    if value > 0 && text != "0" { format!("+{text}") } else { text }
}

/// A size as a person reads it: `12.06MB`.
pub fn bytes(value: u64) -> String {
    label(i128::from(value), "bytes", "auto")
}

/// `1 dump`, `2 dumps`, `3 processes`.
pub fn counted(count: usize, what: &str) -> String {
    let plural = match count {
        1 => "",
        _ if what.ends_with('s') => "es",
        _ => "s",
    };
    format!("{count} {what}{plural}")
}

/// `value` of `total` in per cent, six characters wide.
pub fn percentage(value: i128, total: i128) -> String {
    let ratio = if total == 0 { 0.0 } else { (value as f64 / total as f64).abs() * 100.0 };
    if (99.95..=100.05).contains(&ratio) {
        "  100%".to_owned()
    } else if ratio >= 1.0 {
        format!("{ratio:5.2}%")
    } else {
        format!("{:>5}%", two_digits(ratio))
    }
}

/// Two significant digits of a number in [0, 1), as C's `%.2g` writes them.
fn two_digits(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let exact = format!("{value:.1e}");
    let Some((mantissa, exponent)) = exact.split_once('e') else {
        return exact;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| -> String {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    if exponent < -4 {
        return format!("{}e-{:02}", trim(mantissa), exponent.unsigned_abs());
    }
    let decimals = usize::try_from(1 - exponent).unwrap_or(0);
    trim(&format!("{value:.decimals$}"))
}

/// One unit for a whole table: the one in which the smallest value still shows, pprof's `minimum`.
pub fn table_unit(smallest: i128, largest: i128, from: &str) -> String {
    let (_, small) = scale(smallest, from, "minimum");
    let (_, large) = scale(largest, from, "minimum");
    let chosen = if small != large && smallest.saturating_mul(100) < largest {
        scale(smallest.saturating_mul(100), from, "minimum").1
    } else {
        small
    };
    if chosen.is_empty() { from.to_owned() } else { chosen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pprofs() {
        assert_eq!(label(512, "bytes", "auto"), "512B");
        assert_eq!(label(1536, "bytes", "auto"), "1.50kB");
        assert_eq!(label(2048, "bytes", "auto"), "2kB");
        assert_eq!(label(-12_645_826, "bytes", "auto"), "-12.06MB");
        assert_eq!(label(0, "bytes", "auto"), "0");
        assert_eq!(label(1536, "bytes", "B"), "1536B");
        assert_eq!(label(7, "count", "auto"), "7");
        assert_eq!(label(1_500_000_000, "nanoseconds", "auto"), "1.50s");
        assert_eq!(label(1, "bytes", "GB"), "0");
        // A unit may be anything.
        assert_eq!(label(7, "\x1b[2J", "\x1b[2J"), "7\\x1b[2J");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            [(0, "row"), (1, "address"), (2, "address")].map(|(count, what)| counted(count, what)),
            ["0 rows", "1 address", "2 addresses"]
        );
    }

    #[test]
    fn percentages_are_pprofs() {
        assert_eq!(percentage(1, 1), "  100%");
        assert_eq!(percentage(1, 3), "33.33%");
        assert_eq!(percentage(1, 10_000), " 0.01%");
        assert_eq!(percentage(5, 1_000), "  0.5%");
        assert_eq!(percentage(1, 10_000_000), "1e-05%");
        assert_eq!(percentage(0, 10), "    0%");
        assert_eq!(percentage(3, 0), "    0%");
        assert_eq!(percentage(9996, 1_000_000), "    1%");
    }

    #[test]
    fn one_unit_serves_the_table() {
        assert_eq!(table_unit(10, 100 << 20, "bytes"), "B");
        assert_eq!(table_unit(200 << 10, 100 << 20, "bytes"), "MB");
        // What a ratio has made nothing of asks for the smallest unit.
        assert_eq!(table_unit(0, 100 << 20, "bytes"), "B");
        assert_eq!(table_unit(5, 100, "count"), "count");
    }
}
