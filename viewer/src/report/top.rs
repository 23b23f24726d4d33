//! `top`: where the memory is, as a table; with a base, where it changed.
//!
//! Numbers, order and cuts are those of `go tool pprof -top`; the columns of samples and of the 95 %
//! interval, and the place in the source, are this tool's.

use serde_json::{Value, json};

use super::{estimate_json, interval_text, narrow, time};
use crate::graph::{Granularity, Graph, Inlined, Node, Sides, printable};
use crate::model::{Columns, Profile, base_name};
use crate::output::Style;
use crate::{escape, measure};

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// The column, with what tells its uncertainty.
    pub columns: Columns,
    /// What makes a row.
    pub granularity: Granularity,
    /// Sort by cumulative sums, and show their interval.
    pub by_cum: bool,
    /// Rows to show; 0 for all.
    pub node_count: usize,
    /// Rows below this share of the total are left out.
    pub node_fraction: f64,
    /// Unit of the table; `minimum` chooses one for all rows, `auto` one for each.
    pub unit: String,
    /// What 100 % is.
    pub total: i128,
    /// Filters in force, for the head.
    pub filters: Vec<String>,
    /// Rows of a base are there: sums are differences.
    pub is_difference: bool,
}

/// The finished table.
#[derive(Debug)]
pub struct Top {
    rows: Vec<Node>,
    totals: Sides,
    /// Rows below the cut, and the cut.
    dropped: (usize, i128),
    /// Rows above the cut, shown or not.
    candidates: usize,
    options: Options,
    unit: String,
}

impl Top {
    /// Makes the table.
    pub fn new(profile: &mut Profile, options: Options) -> Self {
        let mut graph = Graph::new(profile, &options.columns, options.granularity);
        // pprof knows no node whose sums cancelled out.
        graph
            .nodes
            .retain(|node| node.flat.net() != 0 || node.cum.net() != 0);
        let before = graph.nodes.len();
        let flat_sum = graph
            .nodes
            .iter()
            .fold(0i128, |sum, n| sum.saturating_add(n.flat.net()));
        let cut = (flat_sum as f64 * options.node_fraction).abs() as i128;
        if cut > 0 {
            graph
                .nodes
                .retain(|node| node.cum.net().unsigned_abs() >= cut.unsigned_abs());
        }
        let dropped = before - graph.nodes.len();
        graph.sort(profile, options.by_cum);
        let candidates = graph.nodes.len();
        if options.node_count > 0 {
            graph.nodes.truncate(options.node_count);
        }
        let unit = match options.unit.as_str() {
            "minimum" => {
                let smallest = graph
                    .nodes
                    .iter()
                    .map(|node| match node.flat.net() {
                        0 => node.cum.net().saturating_abs(),
                        flat => flat.saturating_abs(),
                    })
                    .filter(|&value| value > 0)
                    .min();
                let from = &profile.sample_types[options.columns.column].unit;
                measure::table_unit(smallest.unwrap_or(0), options.total, from)
            }
            unit => unit.to_owned(),
        };
        let shown_cut = (options.total as f64 * options.node_fraction).abs() as i128;
        Self {
            rows: graph.nodes,
            totals: graph.total,
            dropped: (dropped, shown_cut),
            candidates,
            options,
            unit,
        }
    }

    /// The table for people.
    pub fn text(&self, profile: &Profile, style: Style) -> String {
        let from = profile.sample_types[self.options.columns.column]
            .unit
            .as_str();
        let format = |value: i128| measure::label(value, from, &self.unit);
        let mut out = head(
            profile,
            &self.options.columns,
            self.options.total,
            &self.unit,
        );
        if !self.options.filters.is_empty() {
            out.push_str("Active filters:\n");
            for filter in &self.options.filters {
                out.push_str(&format!(
                    "   {}\n",
                    escape::shorten(&escape::terminal(filter), 80)
                ));
            }
        }
        let total = self.options.total;
        let shown = self
            .rows
            .iter()
            .fold(0i128, |sum, n| sum.saturating_add(n.flat.net()));
        out.push_str(&format!(
            "Showing nodes accounting for {}, {} of {} total\n",
            format(shown),
            measure::percentage(shown, total).trim(),
            format(total)
        ));
        out.push_str(&self.sampling_line(from));
        if self.dropped.0 > 0 {
            let nodes = if self.dropped.0 > 1 { "nodes" } else { "node" };
            out.push_str(&format!(
                "Dropped {} {nodes} (cum <= {})\n",
                self.dropped.0,
                format(self.dropped.1)
            ));
        }
        if self.rows.len() < self.candidates {
            let (shown, all) = (self.rows.len(), self.candidates);
            out.push_str(&format!("Showing top {shown} nodes out of {all}\n"));
        }
        let which = if self.options.by_cum {
            "cum 95%"
        } else {
            "flat 95%"
        };
        let title = format!(
            "{:>10} {:>5}% {:>5}% {:>10} {:>5}% {:>8} {:>18}  name",
            "flat", "flat", "sum", "cum", "cum", "samples", which
        );
        out.push_str(&style.paint("1", &title));
        out.push('\n');
        let mut sum = 0i128;
        for node in &self.rows {
            let (flat, cum) = (node.flat.net(), node.cum.net());
            sum = sum.saturating_add(flat);
            let sides = if self.options.by_cum {
                &node.cum
            } else {
                &node.flat
            };
            let numbers = format!(
                "{:>10} {} {} {:>10} {} {:>8} {:>18}  ",
                format(flat),
                measure::percentage(flat, total),
                measure::percentage(sum, total),
                format(cum),
                measure::percentage(cum, total),
                sides.samples() as u64,
                self.interval(sides, from),
            );
            let name = row_name(profile, node, self.options.granularity);
            let room = style
                .width
                .map_or(usize::MAX, |width| width.saturating_sub(numbers.len()));
            out.push_str(&numbers);
            out.push_str(&escape::shorten(&name, room.max(20)));
            out.push('\n');
        }
        out
    }

    fn interval(&self, sides: &Sides, from: &str) -> String {
        let interval = if self.options.is_difference {
            sides.change().interval
        } else {
            sides.new.interval()
        };
        if sides.samples() == 0.0 && sides.net() == 0 {
            return "-".to_owned();
        }
        let to = if self.unit == "minimum" {
            "auto"
        } else {
            &self.unit
        };
        interval_text(interval, from, to)
    }

    fn sampling_line(&self, from: &str) -> String {
        let period = self.options.columns.period();
        if period <= 0.0 {
            return String::new();
        }
        format!(
            "Sampled every {}: {} samples; total within {} (95%)\n",
            measure::bytes(period as u64),
            self.totals.samples() as u64,
            self.interval(&self.totals, from),
        )
    }

    /// The table for programs.
    pub fn json(&self, profile: &Profile) -> Value {
        let value_type = &profile.sample_types[self.options.columns.column];
        let side = |sides: &Sides| {
            if !self.options.is_difference {
                return estimate_json(&sides.new);
            }
            let change = sides.change();
            json!({
                "value": narrow(change.delta),
                "low": change.interval.map(|i| i.low),
                "high": change.interval.map(|i| i.high),
                "base": estimate_json(&sides.base),
                "new": estimate_json(&sides.new),
            })
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|node| {
                json!({
                    "name": printable(profile, &node.key),
                    "function": profile.text(node.key.name),
                    "file": profile.text(node.place.0),
                    "line": node.place.1,
                    "binary": profile.text(node.key.object),
                    "inlined": match node.inlined {
                        Inlined::No => "no",
                        Inlined::Partly => "partly",
                        Inlined::Yes => "yes",
                    },
                    "flat": side(&node.flat),
                    "cum": side(&node.cum),
                })
            })
            .collect();
        json!({
            "sample_type": value_type.kind,
            "unit": value_type.unit,
            "period": profile.period,
            "time_nanos": profile.time_nanos,
            "total": narrow(self.options.total),
            "sum": side(&self.totals),
            "dropped_rows": self.dropped.0,
            "rows_in_all": self.candidates,
            "rows": rows,
        })
    }

    /// The table for spreadsheets, in the profile's own unit.
    pub fn csv(&self, profile: &Profile) -> String {
        let mut out = String::from(
            "function,file,line,binary,flat,flat_low,flat_high,flat_samples,cum,cum_low,cum_high,cum_samples\n",
        );
        let cells = |sides: &Sides| {
            let interval = if self.options.is_difference {
                sides.change().interval
            } else {
                sides.new.interval()
            };
            let ends = match interval {
                Some(i) => format!("{:.0},{:.0}", i.low, i.high),
                None => ",".to_owned(),
            };
            format!("{},{ends},{}", sides.net(), sides.samples() as u64)
        };
        for node in &self.rows {
            let key = &node.key;
            let function = if key.name.is_empty() {
                printable(profile, key)
            } else {
                profile.text(key.name).to_owned()
            };
            out.push_str(&format!(
                "{},{},{},{},{},{}\n",
                escape::csv(&function),
                escape::csv(profile.text(node.place.0)),
                node.place.1,
                escape::csv(profile.text(key.object)),
                cells(&node.flat),
                cells(&node.cum),
            ));
        }
        out
    }
}

/// A row's name, escaped: pprof's name, how it was inlined, and the heaviest place.
pub(crate) fn row_name(profile: &Profile, node: &Node, granularity: Granularity) -> String {
    let mut name = escape::terminal(&printable(profile, &node.key)).into_owned();
    match node.inlined {
        Inlined::No => {}
        Inlined::Partly => name.push_str(" (partial-inline)"),
        Inlined::Yes => name.push_str(" (inline)"),
    }
    let named_only = matches!(
        granularity,
        Granularity::Functions | Granularity::Sites | Granularity::FileFunctions
    );
    let file = profile.text(node.place.0);
    if named_only && !file.is_empty() {
        name.push_str(&format!(
            "  {}:{}",
            escape::terminal(&short_path(file)),
            node.place.1
        ));
    }
    name
}

/// The last two parts of a path: enough to tell `src/cache.rs` from `src/main.rs`.
fn short_path(path: &str) -> String {
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some(file), Some(directory)) => format!("{directory}/{file}"),
        _ => path.to_owned(),
    }
}

/// What the profile is: pprof's first lines.
///
/// `total` in the report's unit stands beside the duration.
pub(crate) fn head(profile: &Profile, columns: &Columns, total: i128, unit: &str) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        out.push_str(&format!("{name}{}\n", escape::terminal(value)));
    };
    if let Some(main) = profile.mappings.first() {
        let (file, id) = (profile.text(main.file), profile.text(main.build_id));
        if !file.is_empty() {
            line("File: ", base_name(file));
        }
        if !id.is_empty() {
            line("Build ID: ", id);
        }
    }
    for comment in profile
        .comments
        .iter()
        .filter(|comment| !comment.starts_with('#'))
    {
        line("", comment);
    }
    let value_type = &profile.sample_types[columns.column];
    if !value_type.kind.is_empty() {
        line("Type: ", &value_type.kind);
    }
    if profile.time_nanos != 0 {
        line("Time: ", &time::header(profile.time_nanos));
    }
    if profile.duration_nanos != 0 {
        let duration = i128::from(profile.duration_nanos);
        let (nanos, in_nanos) = measure::scale(total, &value_type.unit, "nanoseconds");
        let share = if in_nanos == "ns" && nanos != 0.0 {
            format!("({})", measure::percentage(nanos as i128, duration))
        } else {
            String::new()
        };
        line(
            "Duration: ",
            &format!(
                "{}, Total samples = {} {share}",
                measure::label(duration, "nanoseconds", "auto"),
                measure::label(total, &value_type.unit, unit)
            ),
        );
    }
    out
}
