//! One module per report. Each takes a profile and options and returns text or bytes; none of them
//! opens a file or writes to one.

pub mod diff;
pub mod flame;
pub mod folded;
mod head;
pub mod info;
pub mod leaks;
pub mod list;
pub mod page;
pub mod plots;
pub mod raw;
pub mod summary;
pub mod time;
pub mod top;
pub mod traces;
pub mod tree;

use serde_json::{Value, json};

use crate::graph::{self, Granularity, Sides, Trim};
use crate::model::{BaseUse, Columns, Profile};
use crate::stats::{Estimate, Interval};
use crate::{escape, measure};

/// What a table shows of a profile.
#[derive(Clone, Debug)]
pub struct Options {
    /// The column, with what tells its uncertainty.
    pub columns: Columns,
    /// What makes a row.
    pub granularity: Granularity,
    /// Which rows, in which order.
    pub trim: Trim,
    /// Unit of the table; `minimum` chooses one for all rows, `auto` one for each.
    pub unit: String,
    /// What numbers are multiplied with before they are written.
    pub ratio: f64,
    /// What 100 % is.
    pub total: i128,
    /// Filters in force, for the head.
    pub filters: Vec<String>,
    /// How a base is used: with one, sums are differences.
    pub base: BaseUse,
    /// The column of blocks to divide by: sums are means.
    pub divisor: Option<usize>,
}

impl Options {
    /// How the graph is made.
    pub(crate) fn graph(&self) -> graph::Options {
        graph::Options {
            granularity: self.granularity,
            with_objects: false,
            cancels: self.base == BaseUse::Subtract,
            divisor: self.divisor,
            ..graph::Options::default()
        }
    }

    /// How numbers are written, given the unit of the table.
    pub(crate) fn format(&self, profile: &Profile, unit: &str) -> Format {
        Format { from: profile.sample_types[self.columns.column].unit.clone(), to: unit.to_owned(), ratio: self.ratio }
    }

    /// The 95 % interval of what a table shows for `sides`, where it is known.
    pub(crate) fn interval(&self, sides: &Sides) -> Option<Interval> {
        if self.divisor.is_some() || (sides.samples() == 0.0 && sides.net() == 0) {
            return None;
        }
        let interval = if self.base == BaseUse::None { sides.new.interval() } else { sides.change().interval };
        let times = |value: f64| if self.ratio > 0.0 { value * self.ratio } else { value };
        interval.map(|i| Interval { low: times(i.low), high: times(i.high) })
    }
}

impl graph::Trimmed {
    /// How the numbers of a report are written: in its unit, or in one that suits what is shown.
    pub(crate) fn format(&self, profile: &Profile, options: &Options) -> Format {
        let from = &profile.sample_types[options.columns.column].unit;
        let unit = match options.unit.as_str() {
            "minimum" => self.unit(options.total, from, options.ratio),
            unit => unit.to_owned(),
        };
        options.format(profile, &unit)
    }
}

/// How numbers of a report are written.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    /// The column's unit.
    pub from: String,
    /// The report's unit.
    pub to: String,
    /// What they are multiplied with.
    pub ratio: f64,
}

impl Format {
    /// A number with its unit.
    pub fn value(&self, value: i128) -> String {
        measure::label(measure::times(value, self.ratio), &self.from, &self.to)
    }

    /// An interval that has been multiplied already.
    pub fn interval(&self, interval: Option<Interval>) -> String {
        let to = if self.to == "minimum" { "auto" } else { &self.to };
        interval_text(interval, &self.from, to)
    }
}

/// An interval as `10.12..13.90MB`: both ends in one unit, written once.
pub(crate) fn interval_text(interval: Option<Interval>, from: &str, to: &str) -> String {
    let Some(interval) = interval else {
        return "-".to_owned();
    };
    let (low, high) = (interval.low.round() as i128, interval.high.round() as i128);
    let widest = if low.unsigned_abs() > high.unsigned_abs() { low } else { high };
    let unit = if matches!(to, "auto" | "minimum") { measure::scale(widest, from, to).1 } else { to.to_owned() };
    let number = |value: i128| {
        let (scaled, _) = measure::scale(value, from, &unit);
        let text = format!("{scaled:.2}");
        text.strip_suffix(".00").map(str::to_owned).unwrap_or(text)
    };
    let (_, printed) = measure::scale(widest, from, &unit);
    format!("{}..{}{}", number(low), number(high), escape::terminal(&printed))
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
        let interval = Some(Interval { low: 1_000_000.0, high: 3_000_000.0 });
        assert_eq!(interval_text(interval, "bytes", "auto"), "0.95..2.86MB");
        assert_eq!(interval_text(interval, "bytes", "B"), "1000000..3000000B");
        assert_eq!(interval_text(None, "bytes", "auto"), "-");
        assert_eq!(interval_text(interval, "\x1b[2J", "\x1b[2J"), "1000000..3000000\\x1b[2J");
    }
}
