//! `leaks`: what grows over a series of dumps, and does not stop.

use serde_json::{Value, json};

use super::diff::probability;
use super::top::row_name;
use super::{estimate_json, interval_text, narrow};
use crate::graph::{Granularity, printable};
use crate::model::Profile;
use crate::output::Style;
use crate::series::{Series, Shape, Site, Slope};
use crate::stats::Interval;
use crate::{escape, measure};

/// How it is shown.
#[derive(Clone, Debug)]
pub struct Options {
    /// The column.
    pub column: usize,
    /// What makes a site.
    pub granularity: Granularity,
    /// Rows to show; 0 for all, steady ones included.
    pub node_count: usize,
    /// Unit of the sizes.
    pub unit: String,
}

/// The unit of time in which rates are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    pub seconds: f64,
    pub name: &'static str,
}

impl Pace {
    /// One of which the series has at least two.
    pub fn of(series: &Series) -> Self {
        let span = series.x.last().copied().unwrap_or(0.0);
        let units = [(86_400.0, "day"), (3600.0, "h"), (60.0, "min")];
        match units.into_iter().find(|(seconds, _)| span >= 2.0 * seconds) {
            _ if !series.is_timed => Self { seconds: 1.0, name: "dump" },
            Some((seconds, name)) => Self { seconds, name },
            None => Self { seconds: 1.0, name: "s" },
        }
    }

    /// A rate with its interval.
    pub fn rate(&self, slope: Slope) -> (f64, Interval) {
        let Interval { low, high } = slope.interval();
        (slope.value * self.seconds, Interval { low: low * self.seconds, high: high * self.seconds })
    }

    /// A time in the unit that suits it.
    pub fn span(&self, value: f64) -> String {
        if self.name == "dump" {
            return format!("{value:.1} dumps");
        }
        match value {
            value if value >= 2.0 * 86_400.0 => format!("{:.1}d", value / 86_400.0),
            value if value >= 2.0 * 3600.0 => format!("{:.1}h", value / 3600.0),
            value if value >= 120.0 => format!("{:.1}min", value / 60.0),
            value if value >= 2.0 => format!("{value:.1}s"),
            value => format!("{:.0}ms", value * 1000.0),
        }
    }
}

/// What is shown unless everything is asked for: whatever is not steady.
pub(crate) fn shown(series: &Series, node_count: usize) -> Vec<&Site> {
    let is_news = |site: &&Site| node_count == 0 || site.shape != Shape::Steady;
    let most = if node_count == 0 { usize::MAX } else { node_count };
    series.sites.iter().filter(is_news).take(most).collect()
}

/// The table for people.
pub fn text(profile: &Profile, series: &Series, options: &Options, style: Style) -> String {
    let from = profile.sample_types[options.column].unit.as_str();
    let size = |value: i128| measure::label(value, from, &options.unit);
    let rate = |value: f64| measure::signed_label(value.round() as i128, from, &options.unit);
    let pace = Pace::of(series);
    let dumps = series.x.len();
    let mut out = format!("Type: {}\n", escape::terminal(&profile.sample_types[options.column].kind));
    let span = pace.span(series.x[dumps - 1]);
    out.push_str(&match &series.not_followed {
        None => format!("{dumps} dumps of one process over {span}; samples followed from dump to dump\n"),
        Some(reason) => format!("{dumps} dumps over {span}, each for itself: {reason}\n"),
    });
    let (slope, interval) = pace.rate(series.total_slope);
    out.push_str(&format!(
        "In use: {} -> {}, {}/{} (95%: {})\n",
        size(series.total[0].value),
        size(series.total[dumps - 1].value),
        rate(slope),
        pace.name,
        interval_text(finite(interval), from, &options.unit),
    ));
    let leaks = series.sites.iter().filter(|site| site.shape == Shape::Leak).count();
    out.push_str(&match leaks {
        0 => "Nothing grows steadily\n".to_owned(),
        1 => "1 site grows steadily and keeps what it was given\n".to_owned(),
        leaks => format!("{leaks} sites grow steadily and keep what they were given\n"),
    });
    let width = dumps.clamp(5, 24);
    let growth = format!("growth/{}", pace.name);
    let title = format!(
        "{:<9} {growth:>12} {:>20} {:>8} {:>10} {:>5} {:>5} {:>8} {:<width$}  name",
        "shape", "95%", "q", "in use", "old", "kept", "age", "trend"
    );
    out.push_str(&style.paint("1", &title));
    out.push('\n');
    let rows = shown(series, options.node_count);
    for site in &rows {
        let (slope, interval) = pace.rate(site.slope);
        let share = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.0}%", (share * 100.0).abs()));
        let numbers = format!(
            "{:<9} {:>12} {:>20} {:>8} {:>10} {:>5} {:>5} {:>8} {:<width$}  ",
            site.shape.word(),
            rate(slope),
            interval_text(finite(interval), from, &options.unit),
            probability(Some(if site.shape == Shape::Leak { site.rate } else { site.slope_rate })),
            size(site.values[dumps - 1].value),
            share(site.old),
            share(site.kept),
            site.age.map_or("-".to_owned(), |age| pace.span(age)),
            sparkline(site, width),
        );
        let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(numbers.chars().count()));
        let name = row_name(profile, &site.node, options.granularity);
        let line = format!("{numbers}{}", escape::shorten(&name, room.max(20)));
        out.push_str(&match site.shape {
            Shape::Leak => style.paint("31", &line),
            Shape::Load | Shape::Unclear => style.paint("33", &line),
            _ => line,
        });
        out.push('\n');
    }
    let rest = series.sites.len() - rows.len();
    if rest > 0 {
        out.push_str(&format!("{rest} more sites, steady or smaller (-n 0 shows all)\n"));
    }
    out
}

fn finite(interval: Interval) -> Option<Interval> {
    (interval.low.is_finite() && interval.high.is_finite()).then_some(interval)
}

/// The series in so many characters, from 0 up.
fn sparkline(site: &Site, width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = site.values.iter().map(|value| value.value).max().unwrap_or(0).max(1) as f64;
    let dumps = site.values.len();
    let width = width.min(dumps);
    (0..width)
        .map(|at| {
            let dump = if width == 1 { 0 } else { at * (dumps - 1) / (width - 1) };
            let share = (site.values[dump].value as f64 / most).clamp(0.0, 1.0);
            BARS[(share * 7.0).round() as usize]
        })
        .collect()
}

/// The table for programs. Rates are per second, or per dump where times are not known.
pub fn json(profile: &Profile, series: &Series, options: &Options) -> Value {
    let slope = |slope: &Slope| {
        let interval = finite(slope.interval());
        json!({
            "value": slope.value,
            "standard_error": interval.map(|_| slope.error),
            "low": interval.map(|i| i.low),
            "high": interval.map(|i| i.high),
        })
    };
    let sites: Vec<Value> = shown(series, options.node_count)
        .into_iter()
        .map(|site| {
            json!({
                "name": printable(profile, &site.node.key),
                "file": profile.text(site.node.place.0),
                "line": site.node.place.1,
                "shape": site.shape.word(),
                "score": site.score(),
                "slope": slope(&site.slope),
                "slope_q": site.slope_rate,
                "late_slope": slope(&site.late),
                "steady_p": site.probability,
                "steady_q": site.rate,
                "old": site.old,
                "kept": site.kept,
                "age": site.age,
                "last": estimate_json(&site.values[site.values.len() - 1]),
                "values": site.values.iter().map(|value| narrow(value.value)).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "sample_type": profile.sample_types[options.column].kind,
        "unit": profile.sample_types[options.column].unit,
        "rate_unit": if series.is_timed { "per second" } else { "per dump" },
        "followed": series.not_followed.is_none(),
        "why_not_followed": series.not_followed,
        "x": series.x,
        "total": series.total.iter().map(|value| narrow(value.value)).collect::<Vec<_>>(),
        "total_slope": slope(&series.total_slope),
        "sites_in_all": series.sites.len(),
        "sites": sites,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_a_unit_of_which_there_are_some() {
        let pace = |span: f64, is_timed: bool| {
            let series = Series {
                x: vec![0.0, span],
                is_timed,
                sites: Vec::new(),
                total: Vec::new(),
                total_slope: Slope::default(),
                not_followed: None,
            };
            Pace::of(&series).name
        };
        assert_eq!(pace(3.0, true), "s");
        assert_eq!(pace(600.0, true), "min");
        assert_eq!(pace(86_400.0, true), "h");
        assert_eq!(pace(1e6, true), "day");
        assert_eq!(pace(1e6, false), "dump");
    }
}
