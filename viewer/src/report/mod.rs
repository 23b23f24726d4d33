//! One module per report. Each takes a profile and options and returns text or bytes; none of them
//! opens a file or writes to one.

pub mod diff;
pub mod flame;
pub mod folded;
pub mod info;
pub mod raw;
pub mod summary;
pub mod time;
pub mod top;
pub mod traces;

use serde_json::{Value, json};

use crate::measure;
use crate::stats::{Estimate, Interval};

/// An interval as `10.12..13.90MB`: both ends in one unit, written once.
pub(crate) fn interval_text(interval: Option<Interval>, from: &str, to: &str) -> String {
    let Some(interval) = interval else {
        return "-".to_owned();
    };
    let (low, high) = (interval.low.round() as i128, interval.high.round() as i128);
    let widest = if low.unsigned_abs() > high.unsigned_abs() {
        low
    } else {
        high
    };
    let unit = if matches!(to, "auto" | "minimum") {
        measure::scale(widest, from, to).1
    } else {
        to.to_owned()
    };
    let number = |value: i128| {
        let (scaled, _) = measure::scale(value, from, &unit);
        let text = format!("{scaled:.2}");
        text.strip_suffix(".00").map(str::to_owned).unwrap_or(text)
    };
    let (_, printed) = measure::scale(widest, from, &unit);
    format!("{}..{}{printed}", number(low), number(high))
}

/// A sum for machines: value, standard error, interval, samples.
pub(crate) fn estimate_json(estimate: &Estimate) -> Value {
    let interval = estimate.interval();
    json!({
        "value": narrow(estimate.value),
        "standard_error": estimate.standard_error(),
        "low": interval.map(|i| i.low),
        "high": interval.map(|i| i.high),
        "samples": estimate.samples as u64,
    })
}

/// JSON numbers end at 64 bits.
pub(crate) fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_share_a_unit() {
        let interval = Some(Interval {
            low: 1_000_000.0,
            high: 3_000_000.0,
        });
        assert_eq!(interval_text(interval, "bytes", "auto"), "0.95..2.86MB");
        assert_eq!(interval_text(interval, "bytes", "B"), "1000000..3000000B");
        assert_eq!(interval_text(None, "bytes", "auto"), "-");
    }
}
