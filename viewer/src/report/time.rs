//! Instants and durations as text, always in UTC.

/// Year, month, day, hour, minute, second and nanosecond of an instant.
struct Civil {
    year: i64,
    month: usize,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    nanosecond: i64,
}

impl Civil {
    fn of(nanos: i64) -> Self {
        let seconds = nanos.div_euclid(1_000_000_000);
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Days since 0000-03-01, in eras of 400 years: the leap day is the last of its year.
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_shifted = (5 * of_year + 2) / 153;
        let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: usize::try_from(month).unwrap_or(1),
            day: of_year - (153 * month_shifted + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest % 3600 / 60,
            second: rest % 60,
            nanosecond: nanos.rem_euclid(1_000_000_000),
        }
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// `Nov 23, 2026 at 8:16pm (UTC)`.
pub fn header(nanos: i64) -> String {
    let c = Civil::of(nanos);
    let (hour, half) = (c.hour % 12, if c.hour < 12 { "am" } else { "pm" });
    let hour = if hour == 0 { 12 } else { hour };
    let month = MONTHS[c.month - 1];
    format!("{month} {}, {} at {hour}:{:02}{half} (UTC)", c.day, c.year, c.minute)
}

/// `2026-11-23 20:16:14.5 +0000 UTC`.
pub fn full(nanos: i64) -> String {
    let c = Civil::of(nanos);
    let fraction = if c.nanosecond == 0 {
        String::new()
    } else {
        format!(".{:09}", c.nanosecond).trim_end_matches('0').to_owned()
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{fraction} +0000 UTC",
        c.year, c.month, c.day, c.hour, c.minute, c.second
    )
}

/// A duration as Go writes it: `1h2m3.5s`, `250ms`, `0s`.
pub fn duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let number = |value: u64, unit: u64| {
        let digits = unit.ilog10() as usize;
        let (whole, rest) = (value / unit, value % unit);
        if rest == 0 {
            return whole.to_string();
        }
        format!("{whole}.{rest:0digits$}").trim_end_matches('0').to_owned()
    };
    let text = match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", number(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", number(nanos, 1_000_000)),
        _ => {
            let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
            let seconds = number(rest, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        assert_eq!(full(0), "1970-01-01 00:00:00 +0000 UTC");
        assert_eq!(full(951_782_400_500_000_000), "2000-02-29 00:00:00.5 +0000 UTC");
        assert_eq!(full(-1), "1969-12-31 23:59:59.999999999 +0000 UTC");
        assert_eq!(header(1_644_509_275_338_070_000), "Feb 10, 2022 at 4:07pm (UTC)");
        assert_eq!(header(0), "Jan 1, 1970 at 12:00am (UTC)");
    }

    #[test]
    fn durations() {
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(1_500), "1.5µs");
        assert_eq!(duration(250_000_000), "250ms");
        assert_eq!(duration(30_080_000_000), "30.08s");
        assert_eq!(duration(3_723_500_000_000), "1h2m3.5s");
    }
}
