//! `report`: one HTML file with everything in it, which asks the network for nothing; and the same page for `serve`, whose
//! script asks the server for what it shows.
//!
//! Numbers and names stand in one JSON element and are put on the page as text by the page's own script, so that a name
//! can't become markup; the content security policy lets nothing else run or load. Same input, same bytes.

mod fill;
mod waterfall;

use hashbrown::HashMap;
use serde_json::{Value, json};

use super::{info, leaks, narrow};
use crate::compare::{self, Comparison, Fates, Pairing, Way};
use crate::graph::{self, Granularity, Graph, printable};
use crate::model::{Columns, LabelValue, PartCache, Profile, Side};
use crate::report::folded::{is_binary_only, names};
use crate::series::{Series, Shape};
use crate::stats::Interval;
use crate::{escape, measure};

/// Rows of a table at most; the flame graph has everything.
const ROWS: usize = 2000;
/// Sites with a trend.
const TRENDS: usize = 24;

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// The column, with what tells its uncertainty.
    pub columns: Columns,
    /// Headline; chosen from the profile if empty.
    pub title: String,
    /// What the profile's file is called.
    pub shown: String,
}

/// The page for a profile, with its base if it has one, and for a series with its own profile.
pub fn html(profile: &mut Profile, options: &Options, series: Option<(&Profile, &Series)>) -> String {
    let mut data = data(profile, options);
    if let Some((profile, series)) = series {
        data["trend"] = trend(profile, series, &options.columns);
    }
    fill::alone(data["title"].as_str().unwrap_or_default(), &data.to_string())
}

/// The page without anything to show yet: its script asks the server that it came from. The nonce is the script's
/// own word, which nobody may know beforehand.
pub fn served(nonce: &str) -> String {
    fill::served(nonce)
}

/// All that the page shows of a profile, and of its base if it has one.
pub fn data(profile: &mut Profile, options: &Options) -> Value {
    let columns = &options.columns;
    let kind = profile.sample_types[columns.column].clone();
    let program = profile.mappings.first().map_or("", |main| profile.mapping_name(main));
    let program = if program.is_empty() { "heap" } else { program };
    let title = match options.title.as_str() {
        "" => escape::terminal(&format!("{program}: {}", kind.kind)).into_owned(),
        title => escape::terminal(title).into_owned(),
    };
    let about = info::text(profile, &options.shown);
    let (rows, total) = rows(profile, columns);
    let (sizes, ages) = (sizes(profile, columns), ages(profile, columns));
    let size = |value: i128| measure::label(value, &kind.unit, "auto");
    let interval = total.interval().map_or(String::new(), |i| {
        format!(" (95%: {} to {})", size(i.low.round() as i128), size(i.high.round() as i128))
    });
    let summary = format!("{} {}{interval}, {} samples", size(total.value), kind.kind, total.samples as u64);
    let diff = profile.has_base().then(|| diff(profile, columns));
    let mut data = tree(profile, columns);
    for (key, value) in [
        ("title", title.into()),
        ("summary", escape::terminal(&summary).into()),
        ("kind", escape::terminal(&kind.kind).into()),
        ("types", profile.sample_types.iter().map(|each| escape::terminal(&each.kind)).collect()),
        ("unit", kind.unit.into()),
        ("period", columns.period().into()),
        ("weight", columns.weight_of_nothing().into()),
        ("total", narrow(total.value).into()),
        ("rows", rows),
        ("sizes", sizes),
        ("ages", ages),
        ("waterfall", waterfall::waterfall(profile, columns)),
        ("diff", diff.unwrap_or(Value::Null)),
        ("trend", Value::Null),
        ("about", about.into()),
    ] {
        data[key] = value;
    }
    data
}

/// All stacks as a tree of names: parents, names, and what ends in a frame.
fn tree(profile: &Profile, columns: &Columns) -> Value {
    let fates = if profile.has_base() { Fates::new(profile, columns).ok() } else { None };
    let mut texts = vec!["all".to_owned()];
    let mut numbers: HashMap<(String, bool), u32> = HashMap::new();
    let (mut parents, mut frames) = (vec![0u32], vec![0u32]);
    let mut known: HashMap<(u32, u32), u32> = HashMap::new();
    // New, base, samples, variance of new, variance of the change, skew of new; and the largest weight of a sample.
    let mut own: HashMap<u32, [f64; 7]> = HashMap::new();
    let mut cache = PartCache::default();
    for row in 0..profile.row_count() {
        let value = profile.values(row)[columns.column];
        if value == 0 {
            continue;
        }
        let mut at = 0u32;
        for (name, is_binary) in names(profile, row).into_iter().zip(is_binary_only(profile, row)) {
            let next = texts.len() as u32;
            let number = *numbers.entry((name.to_owned(), is_binary)).or_insert(next);
            if number == next {
                texts.push(match (is_binary, name) {
                    (_, "") => "[unknown]".to_owned(),
                    (true, name) => format!("[{}]", escape::terminal(name)),
                    (false, name) => escape::terminal(name).into_owned(),
                });
            }
            let next = parents.len() as u32;
            let child = *known.entry((at, number)).or_insert(next);
            if child == next {
                parents.push(at);
                frames.push(number);
            }
            at = child;
        }
        let part = columns.part(profile, row, &mut cache).unwrap_or_default();
        let alone = match &fates {
            Some(fates) => fates.only_here(profile, columns, row, &mut cache).map_or(0.0, |a| a.part.variance),
            None => part.variance,
        };
        let sums = own.entry(at).or_default();
        if profile.side(row) == Side::New {
            sums[0] += value as f64;
            sums[2] += part.samples;
            sums[3] += part.variance;
            sums[5] += part.skew;
            sums[6] = sums[6].max(part.weight);
        } else {
            sums[1] += value as f64;
        }
        sums[4] += alone;
    }
    let mut own: Vec<_> = own.into_iter().collect();
    own.sort_unstable_by_key(|&(node, _)| node);
    let own: Vec<Value> = own
        .into_iter()
        .map(|(node, sums)| {
            let mut row = vec![Value::from(node)];
            // Whole numbers: variances are of many digits, of which few mean anything.
            let [sums @ .., skew, weight] = sums;
            row.extend(sums.map(|sum| Value::from(sum.round().clamp(-9e15, 9e18) as i64)));
            let short = |number: f64| Value::from(format!("{number:.2e}").parse::<f64>().unwrap_or_default());
            row.push(short(skew));
            // That of nothing is told once, and is the largest of most columns of bytes.
            if weight > columns.weight_of_nothing() {
                row.push(short(weight));
            }
            Value::Array(row)
        })
        .collect();
    json!({"names": texts, "parents": parents, "frames": frames, "own": own})
}

fn ends(interval: Option<Interval>) -> Value {
    interval.map_or(Value::Null, |i| json!([i.low.round() as i64, i.high.round() as i64]))
}

fn place(profile: &Profile, node: &graph::Node) -> String {
    match profile.text(node.place.0) {
        "" => String::new(),
        file => escape::terminal(&format!("{file}:{}", node.place.1)).into_owned(),
    }
}

/// The table by function, and the total.
fn rows(profile: &mut Profile, columns: &Columns) -> (Value, crate::stats::Estimate) {
    let mut graph = Graph::new(profile, columns, graph::Options::default());
    graph.sort(profile, false);
    let rows: Vec<Value> = graph
        .nodes
        .iter()
        .filter(|node| node.cum.new.value != 0)
        .take(ROWS)
        .map(|node| {
            json!({
                "name": escape::terminal(&printable(profile, &node.key)),
                "place": place(profile, node),
                "value": narrow(node.flat.new.value),
                "interval": ends(node.flat.new.interval().filter(|_| node.flat.new.value != 0)),
                "samples": node.flat.new.samples as u64,
                "cum": narrow(node.cum.new.value),
            })
        })
        .collect();
    (rows.into(), graph.total.new)
}

fn diff(profile: &mut Profile, columns: &Columns) -> Value {
    let options =
        compare::Options { columns: *columns, granularity: Granularity::Sites, by_cum: false, pairing: Pairing::Auto };
    // With this pairing there is always an answer.
    let Ok(compared) = Comparison::new(profile, &options) else { return Value::Null };
    let way = match &compared.way {
        Way::Survivors => {
            "Compared by survivors, as dumps of one process: only what came and what went is uncertain.".to_owned()
        }
        Way::Independent(Some(reason)) => format!("Compared as independent: {reason}."),
        Way::Independent(None) => "Compared as independent.".to_owned(),
        Way::Groups(base, new) => format!("Compared as groups: means of {base} and {new} files."),
    };
    let rows: Vec<Value> = compared
        .rows
        .iter()
        .filter(|row| row.verdict.change.delta != 0)
        .take(ROWS)
        .map(|row| {
            let verdict = &row.verdict;
            json!({
                "name": escape::terminal(&printable(profile, &row.node.key)),
                "place": place(profile, &row.node),
                "delta": narrow(verdict.change.delta),
                "interval": ends(verdict.change.interval),
                "p": verdict.noise,
                "q": verdict.noise_rate,
                "churn": verdict.churn,
                "base": narrow(verdict.shown.0),
                "now": narrow(verdict.shown.1),
                "kind": verdict.kind(),
                "real": verdict.is_real(),
            })
        })
        .collect();
    json!({"way": escape::terminal(&way), "survivors": compared.way == Way::Survivors, "rows": rows})
}

/// Sums of a series, dump by dump, and of the sites that grew most.
pub fn trend(profile: &Profile, series: &Series, columns: &Columns) -> Value {
    let unit = &profile.sample_types[columns.column].unit;
    let pace = leaks::Pace::of(series);
    let rate = |slope| {
        let (slope, interval) = pace.rate(slope);
        let interval = (interval.low.is_finite() && interval.high.is_finite()).then_some(interval);
        format!(
            "{}/{} (95%: {})",
            measure::signed_label(slope.round() as i128, unit, "auto"),
            pace.name,
            super::interval_text(interval, unit, "auto")
        )
    };
    let values = |values: &[crate::stats::Estimate]| -> (Vec<i64>, Vec<Value>) {
        values.iter().map(|value| (narrow(value.value), ends(value.interval()))).unzip()
    };
    let (all, all_ends) = values(&series.total);
    let mut sites = vec![json!({
        "name": "all sites", "note": rate(series.total_slope), "values": all, "intervals": all_ends, "leak": false,
    })];
    for site in series.sites.iter().take(TRENDS) {
        let (values, intervals) = values(&site.values);
        sites.push(json!({
            "name": escape::terminal(&printable(profile, &site.node.key)),
            "note": format!("{}, {}", site.shape.word(), rate(site.slope)),
            "values": values,
            "intervals": intervals,
            "leak": site.shape == Shape::Leak,
        }));
    }
    let leaks = series.sites.iter().filter(|site| site.shape == Shape::Leak).count();
    let span = pace.span(series.x.last().copied().unwrap_or(0.0));
    json!({
        "x": series.x,
        "span": span,
        "note": format!("{} dumps over {span}; sites that grow steadily and keep what they were given: {leaks}", series.x.len()),
        "sites": sites,
    })
}

/// Sums by powers of two of the blocks' sizes.
fn sizes(profile: &Profile, columns: &Columns) -> Value {
    let mut cache = PartCache::default();
    let mut bins = [0i128; 64];
    for row in (0..profile.row_count()).filter(|&row| profile.side(row) == Side::New) {
        let value = profile.values(row)[columns.column];
        if let Some((sampling, _)) = columns.sampling(profile, row, &mut cache).filter(|_| value != 0) {
            bins[(sampling.block_bytes.log2().floor() as usize).min(63)] += i128::from(value);
        }
    }
    let used = bins.iter().position(|&bin| bin != 0).unwrap_or(0)
        ..bins.iter().rposition(|&bin| bin != 0).map_or(0, |at| at + 1);
    let label = |at: usize| measure::label(1i128 << at, "bytes", "auto");
    used.map(|at| json!({"label": label(at), "value": narrow(bins[at])})).collect()
}

/// Sums by the epoch in which blocks were born.
fn ages(profile: &Profile, columns: &Columns) -> Value {
    let Some(epoch) = profile.strings.find("epoch") else { return json!([]) };
    let mut epochs = std::collections::BTreeMap::<i64, i128>::new();
    for row in (0..profile.row_count()).filter(|&row| profile.side(row) == Side::New) {
        let value = profile.values(row)[columns.column];
        let label = profile.labels(row).iter().find(|label| label.key == epoch);
        if let Some(LabelValue::Number(born, _)) = label.map(|label| label.value) {
            *epochs.entry(born).or_default() += i128::from(value);
        }
    }
    epochs.into_iter().map(|(epoch, value)| json!({"label": epoch.to_string(), "value": narrow(value)})).collect()
}
