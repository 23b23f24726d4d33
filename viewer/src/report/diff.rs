//! `diff`: what changed between two profiles, site by site, and whether the change is larger than
//! sampling error.

use serde_json::{Value, json};

use super::top::row_name;
use super::{estimate_json, interval_text, narrow};
use crate::graph::{self, Granularity, Graph, Node, Sides, printable};
use crate::measure;
use crate::model::{Columns, Profile};
use crate::output::Style;
use crate::{escape, stats::Change};

/// What to show.
#[derive(Clone, Debug)]
pub struct Options {
    /// The column, with what tells its uncertainty.
    pub columns: Columns,
    /// What makes a row.
    pub granularity: Granularity,
    /// Compare cumulative sums.
    pub by_cum: bool,
    /// Rows to show; 0 for all.
    pub node_count: usize,
    /// Unit of the table.
    pub unit: String,
}

/// The finished table.
#[derive(Debug)]
pub struct Diff {
    rows: Vec<Node>,
    totals: Sides,
    unchanged: usize,
    left_out: (usize, i128),
    options: Options,
}

impl Diff {
    /// Compares the two sides of `profile`.
    pub fn new(profile: &mut Profile, options: Options) -> Self {
        let graph_options = graph::Options { granularity: options.granularity, ..graph::Options::default() };
        let mut graph = Graph::new(profile, &options.columns, graph_options);
        graph.sort(profile, options.by_cum);
        let pick = |node: &Node| if options.by_cum { node.cum } else { node.flat };
        let before = graph.nodes.len();
        graph.nodes.retain(|node| pick(node).net() != 0);
        let unchanged = before - graph.nodes.len();
        // Stable: within both groups the larger change stays first.
        graph.nodes.sort_by_key(|node| !pick(node).change().is_significant());
        let mut left_out = (0, 0i128);
        if options.node_count > 0 && graph.nodes.len() > options.node_count {
            for node in graph.nodes.drain(options.node_count..) {
                left_out.0 += 1;
                left_out.1 = left_out.1.saturating_add(pick(&node).net());
            }
        }
        Self { rows: graph.nodes, totals: graph.total, unchanged, left_out, options }
    }

    fn pick<'a>(&self, node: &'a Node) -> &'a Sides {
        if self.options.by_cum { &node.cum } else { &node.flat }
    }

    /// The table for people.
    pub fn text(&self, profile: &Profile, style: Style) -> String {
        let value_type = &profile.sample_types[self.options.columns.column];
        let from = value_type.unit.as_str();
        let format = |value: i128| measure::label(value, from, &self.options.unit);
        let signed = |value: i128| measure::signed_label(value, from, &self.options.unit);
        let total = self.totals.change();
        let mut out = format!("Type: {}\n", escape::terminal(&value_type.kind));
        out.push_str(&format!(
            "Total: {} -> {}, {} (95%: {})\n",
            format(self.totals.base.value),
            format(self.totals.new.value),
            signed(total.delta),
            interval_text(total.interval, from, &self.options.unit),
        ));
        out.push_str("* the change is larger than sampling error explains (95% interval without zero)\n");
        let title = format!(
            "{:>11}   {:>20} {:>10} {:>10} {:>13}  name",
            "change", "change 95%", "base", "new", "samples"
        );
        out.push_str(&style.paint("1", &title));
        out.push('\n');
        for node in &self.rows {
            let sides = self.pick(node);
            let change = sides.change();
            let star = if change.is_significant() { '*' } else { ' ' };
            let numbers = format!(
                "{:>11} {star} {:>20} {:>10} {:>10} {:>13}  ",
                signed(change.delta),
                interval_text(change.interval, from, &self.options.unit),
                format(sides.base.value),
                format(sides.new.value),
                format!("{}->{}", sides.base.samples as u64, sides.new.samples as u64),
            );
            let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(numbers.len()));
            let name = row_name(profile, node, self.options.granularity);
            let line = format!("{numbers}{}", escape::shorten(&name, room.max(20)));
            out.push_str(&match (change.is_significant(), change.delta > 0) {
                (true, true) => style.paint("31", &line),
                (true, false) => style.paint("34", &line),
                (false, _) => line,
            });
            out.push('\n');
        }
        if self.left_out.0 > 0 {
            let (rows, sum) = self.left_out;
            out.push_str(&format!("{:>11}   in {rows} more rows (-n 0 shows all)\n", signed(sum)));
        }
        if self.unchanged > 0 {
            out.push_str(&format!("{} rows did not change\n", self.unchanged));
        }
        out
    }

    /// The table for programs.
    pub fn json(&self, profile: &Profile) -> Value {
        let value_type = &profile.sample_types[self.options.columns.column];
        let change = |sides: &Sides| {
            let change: Change = sides.change();
            json!({
                "delta": narrow(change.delta),
                "low": change.interval.map(|i| i.low),
                "high": change.interval.map(|i| i.high),
                "significant": change.is_significant(),
                "base": estimate_json(&sides.base),
                "new": estimate_json(&sides.new),
            })
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|node| {
                let sides = self.pick(node);
                let mut row = change(sides);
                let kind = match (sides.base.value, sides.new.value) {
                    (0, _) => "new",
                    (_, 0) => "gone",
                    (base, new) if new > base => "grown",
                    _ => "shrunk",
                };
                row["name"] = printable(profile, &node.key).into();
                row["file"] = profile.text(node.place.0).into();
                row["line"] = node.place.1.into();
                row["kind"] = kind.into();
                row
            })
            .collect();
        json!({
            "sample_type": value_type.kind,
            "unit": value_type.unit,
            "total": change(&self.totals),
            "unchanged_rows": self.unchanged,
            "rows_left_out": self.left_out.0,
            "rows": rows,
        })
    }
}
