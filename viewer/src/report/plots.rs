//! Trend plots of a series: one small plot for each site, as one SVG.

use super::interval_text;
use super::leaks::{Options, Pace, shown};
use super::top::row_name;
use crate::model::Profile;
use crate::series::{Series, Shape, Site};
use crate::stats::Estimate;
use crate::{escape, measure};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 210.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 30.0;
const COLUMNS: usize = 2;
const HEAD: f64 = 66.0;

/// The picture; the first plot is of all sites together.
pub fn svg(profile: &Profile, series: &Series, options: &Options) -> String {
    let sites = shown(series, options.node_count);
    let plots = sites.len() + 1;
    let rows = plots.div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64 + 20.0, HEAD + HEIGHT * rows as f64 + 10.0);
    let kind = &profile.sample_types[options.column].kind;
    let program = profile.mappings.first().map_or("", |main| profile.mapping_name(main));
    let pace = Pace::of(series);
    let dumps = series.x.len();
    let mut out = format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', monospace\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fafafa\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"17\">{}</text>\n\
         <text x=\"10\" y=\"46\" fill=\"#555\">{dumps} dumps over {}; bars: 95% intervals; lines: least squares over all \
         dumps, and (dashed) over the second half</text>\n",
        escape::xml(&format!("{}: {kind} over time", if program.is_empty() { "heap" } else { program })),
        pace.span(series.x[dumps - 1]),
    );
    let from = &profile.sample_types[options.column].unit;
    let (slope, interval) = pace.rate(series.total_slope);
    let rate = |slope: f64, interval| {
        format!(
            "{}/{} (95%: {})",
            measure::signed_label(slope.round() as i128, from, &options.unit),
            pace.name,
            interval_text(Some(interval), from, &options.unit)
        )
    };
    for at in 0..plots {
        let (column, row) = (at % COLUMNS, at / COLUMNS);
        out.push_str(&format!(
            "<g transform=\"translate({},{})\">\n",
            10.0 + WIDTH * column as f64,
            HEAD + HEIGHT * row as f64
        ));
        match at.checked_sub(1).map(|at| sites[at]) {
            None => {
                let line = rate(slope, interval);
                plot(&mut out, profile, options, series, &series.total, "all sites", &line, "#30405a", &[]);
            }
            Some(site) => {
                let (slope, interval) = pace.rate(site.slope);
                let line = format!("{}, {}", site.shape.word(), rate(slope, interval));
                let name = row_name(profile, &site.node, options.granularity);
                let fits = lines(site, &series.x);
                plot(&mut out, profile, options, series, &site.values, &name, &line, colour(site.shape), &fits);
            }
        }
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn colour(shape: Shape) -> &'static str {
    match shape {
        Shape::Leak => "#c0262d",
        Shape::Load | Shape::Unclear => "#b26a00",
        Shape::Plateau | Shape::Step | Shape::Steady => "#5b6770",
        Shape::Shrinking => "#2558b5",
    }
}

/// Ends of the two lines: x and value.
fn lines(site: &Site, x: &[f64]) -> [[(f64, f64); 2]; 2] {
    let line = |slope: f64, from: usize| {
        let count = (x.len() - from) as f64;
        let middle = x[from..].iter().sum::<f64>() / count;
        let mean = site.values[from..].iter().map(|value| value.value as f64).sum::<f64>() / count;
        [x[from], x[x.len() - 1]].map(|x| (x, mean + slope * (x - middle)))
    };
    [line(site.slope.value, 0), line(site.late.value, crate::series::middle(x.len()))]
}

#[allow(clippy::too_many_arguments, reason = "a plot is these things, and is made in two places")]
fn plot(
    out: &mut String,
    profile: &Profile,
    options: &Options,
    series: &Series,
    values: &[Estimate],
    name: &str,
    line: &str,
    colour: &str,
    fits: &[[(f64, f64); 2]],
) {
    let from = &profile.sample_types[options.column].unit;
    let ends: Vec<(f64, f64)> = values
        .iter()
        .map(|value| {
            let middle = value.value as f64;
            value.interval().map_or((middle, middle), |interval| (interval.low, interval.high))
        })
        .collect();
    let most = ends.iter().map(|&(_, high)| high).fold(1.0, f64::max);
    let top = nice(most);
    let last = series.x[series.x.len() - 1].max(f64::MIN_POSITIVE);
    let x_of = |x: f64| LEFT + x / last * (WIDTH - LEFT - RIGHT);
    let y_of = |value: f64| TOP + (1.0 - (value / top).clamp(0.0, 1.0)) * (HEIGHT - TOP - BOTTOM);
    out.push_str(&format!(
        "<title>{0}: {1}</title><text x=\"0\" y=\"14\" font-weight=\"bold\">{2}</text>\
         <text x=\"0\" y=\"31\" fill=\"{colour}\">{1}</text>\n",
        escape::xml(name),
        escape::xml(line),
        escape::xml(&escape::shorten(name, 72)),
    ));
    for step in 0..=2 {
        let value = top * f64::from(step) / 2.0;
        let y = y_of(value);
        out.push_str(&format!(
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555\">{}</text>\n",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            escape::xml(&measure::label(value.round() as i128, from, "auto")),
        ));
    }
    let pace = Pace::of(series);
    for (at, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        out.push_str(&format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"#555\">{}</text>\n",
            x_of(last * at),
            HEIGHT - BOTTOM + 16.0,
            if at == 0.0 { "0".to_owned() } else { pace.span(last * at) },
        ));
    }
    for (fit, dashes) in fits.iter().zip(["", " stroke-dasharray=\"5 3\""]) {
        let [(x1, y1), (x2, y2)] = *fit;
        out.push_str(&format!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\" stroke-width=\"1.5\" \
             opacity=\"0.7\"{dashes}/>\n",
            x_of(x1),
            y_of(y1),
            x_of(x2),
            y_of(y2)
        ));
    }
    for ((&x, value), (low, high)) in series.x.iter().zip(values).zip(ends) {
        out.push_str(&format!(
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1:.1}\" y2=\"{2:.1}\" stroke=\"{colour}\" opacity=\"0.5\"/>\
             <circle cx=\"{0:.1}\" cy=\"{3:.1}\" r=\"3\" fill=\"{colour}\"/>\n",
            x_of(x),
            y_of(low),
            y_of(high),
            y_of(value.value as f64)
        ));
    }
}

/// The next number from 1, 2, 4, 8 times a power of two steps up: ticks are round in units of 1024.
fn nice(most: f64) -> f64 {
    let unit = 1024f64.powf((most.log2() / 10.0).floor());
    let steps = [1.0, 2.0, 4.0, 8.0, 10.0, 16.0, 20.0, 30.0, 40.0, 50.0, 60.0, 80.0, 100.0, 120.0, 160.0, 200.0, 300.0];
    let more = [400.0, 500.0, 600.0, 800.0, 1024.0];
    steps.into_iter().chain(more).map(|step| step * unit).find(|&step| step >= most).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        const MIB: f64 = 1_048_576.0;
        assert_eq!(nice(3.0 * MIB), 4.0 * MIB);
        assert_eq!(nice(17.0 * MIB), 20.0 * MIB);
        assert_eq!(nice(900.0 * MIB), 1024.0 * MIB);
        assert_eq!(nice(5.0), 8.0);
    }
}
