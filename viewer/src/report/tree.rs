//! `tree` and `peek`: what holds most, between its callers and what it calls.
//!
//! Lines, numbers, order and cuts are those of `go tool pprof -tree` and `-peek`; behind a function's name
//! stand the 95 % interval of its cumulative sum and the samples behind it.

use regex::Regex;
use serde_json::{Value, json};

use super::top::{node_json, sides_json};
use super::{Format, Options, head, narrow};
use crate::graph::{Edge, Trimmed, printable};
use crate::model::Profile;
use crate::output::Style;
use crate::{escape, measure};

const SEPARATOR: &str = "----------------------------------------------------------+-------------\n";

/// The finished report.
#[derive(Debug)]
pub struct Tree {
    shown: Trimmed,
    options: Options,
    format: Format,
    /// Nodes to print, by their place among those shown, each with its callers and callees in order.
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    node: usize,
    callers: Vec<Edge>,
    callees: Vec<Edge>,
}

impl Tree {
    /// Makes the report; with an `expression`, only of the nodes whose names match. `None`: none does.
    pub fn new(profile: &mut Profile, options: Options, expression: Option<&Regex>) -> Option<Self> {
        let shown = Trimmed::new(profile, &options.columns, options.graph(), options.trim, true);
        let format = shown.format(profile, &options);
        let mut places = vec![usize::MAX; shown.nodes.iter().map(|node| node.index as usize + 1).max().unwrap_or(0)];
        let mut blocks = Vec::new();
        for (at, node) in shown.nodes.iter().enumerate() {
            if expression.is_none_or(|expression| expression.is_match(&printable(profile, &node.key))) {
                places[node.index as usize] = blocks.len();
                blocks.push(Block { node: at, callers: Vec::new(), callees: Vec::new() });
            }
        }
        let block_of = |node: u32| places.get(node as usize).copied().filter(|&at| at != usize::MAX);
        for edge in shown.edges.iter() {
            if let Some(at) = block_of(edge.to) {
                blocks[at].callers.push(*edge);
            }
            if let Some(at) = block_of(edge.from) {
                blocks[at].callees.push(*edge);
            }
        }
        let order = |a: &Edge, b: &Edge| {
            let name = |node: u32| printable(profile, shown.key(node));
            (b.weight.unsigned_abs().cmp(&a.weight.unsigned_abs()))
                .then_with(|| name(a.from).cmp(&name(b.from)))
                .then_with(|| name(a.to).cmp(&name(b.to)))
                // Whatever is still equal: new before gone, then in the order of the profile.
                .then_with(|| b.weight.cmp(&a.weight))
                .then_with(|| (a.from, a.to).cmp(&(b.from, b.to)))
        };
        for block in &mut blocks {
            block.callers.sort_by(order);
            block.callees.sort_by(order);
        }
        if expression.is_some() && blocks.is_empty() {
            return None;
        }
        Some(Self { shown, options, format, blocks })
    }

    /// The report for people.
    pub fn text(&self, profile: &Profile, style: Style) -> String {
        let Self { shown, options, format, blocks } = self;
        let mut out = head::profile_lines(profile, options, format);
        out.push_str(&head::filter_lines(&options.filters));
        out.push_str(&head::shown_lines(shown, options, format, ""));
        out.push_str(SEPARATOR);
        let title = "      flat  flat%   sum%        cum   cum%   calls calls% + context";
        out.push_str(&style.paint("1", title));
        out.push('\n');
        let mut sum = 0i128;
        for block in blocks {
            let node = &shown.nodes[block.node];
            let (flat, cum) = (node.flat.shown(), node.cum.shown());
            sum = sum.saturating_add(flat);
            out.push_str(SEPARATOR);
            self.edges(profile, &block.callers, cum, style, |edge| edge.from, &mut out);
            let numbers = format!(
                "{:>10} {} {} {:>10} {}                | ",
                format.value(flat),
                measure::percentage(flat, options.total),
                measure::percentage(sum, options.total),
                format.value(cum),
                measure::percentage(cum, options.total),
            );
            let mut name = escape::terminal(&printable(profile, &node.key)).into_owned();
            if let Some(interval) = options.interval(&node.cum) {
                let samples = node.cum.samples() as u64;
                let interval = format.interval(Some(interval));
                name.push_str(&format!("  cum {interval} (95%), {samples} samples"));
            }
            let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(numbers.chars().count()));
            let line = style.name(&escape::shorten(&name, room.max(20)));
            out.push_str(&style.paint("1", &numbers));
            out.push_str(&style.paint("1", &line));
            out.push('\n');
            self.edges(profile, &block.callees, cum, style, |edge| edge.to, &mut out);
        }
        if !shown.nodes.is_empty() {
            out.push_str(SEPARATOR);
        }
        out
    }

    fn edges(
        &self,
        profile: &Profile,
        edges: &[Edge],
        cum: i128,
        style: Style,
        other: impl Fn(&Edge) -> u32,
        out: &mut String,
    ) {
        for edge in edges {
            let name = printable(profile, self.shown.key(other(edge)));
            let inline = if edge.is_inlined { " (inline)" } else { "" };
            let numbers =
                format!("{:>50} {} |   ", self.format.value(edge.weight), measure::percentage(edge.weight, cum),);
            let name = format!("{}{inline}", escape::terminal(&name));
            let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(numbers.chars().count()));
            out.push_str(&numbers);
            out.push_str(&escape::shorten(&name, room.max(20)));
            out.push('\n');
        }
    }

    /// The report for programs.
    pub fn json(&self, profile: &Profile) -> Value {
        let value_type = &profile.sample_types[self.options.columns.column];
        let calls = |edges: &[Edge], other: &dyn Fn(&Edge) -> u32| -> Vec<Value> {
            let call = |edge: &Edge| {
                json!({
                    "name": printable(profile, self.shown.key(other(edge))),
                    "value": narrow(edge.weight),
                    "inlined": edge.is_inlined,
                })
            };
            edges.iter().map(call).collect()
        };
        let rows: Vec<Value> = self
            .blocks
            .iter()
            .map(|block| {
                let node = &self.shown.nodes[block.node];
                let mut row = node_json(profile, node);
                row["flat"] = sides_json(&self.options, &node.flat);
                row["cum"] = sides_json(&self.options, &node.cum);
                row["callers"] = calls(&block.callers, &|edge| edge.from).into();
                row["callees"] = calls(&block.callees, &|edge| edge.to).into();
                row
            })
            .collect();
        json!({
            "sample_type": value_type.kind,
            "unit": value_type.unit,
            "total": narrow(self.options.total),
            "dropped_rows": self.shown.dropped,
            "rows_in_all": self.shown.candidates,
            "rows": rows,
        })
    }

    /// The calls for spreadsheets, one per line, in the profile's own unit; each stands once.
    pub fn csv(&self, profile: &Profile) -> String {
        let mut out = String::from("caller,callee,value,inlined\n");
        for block in &self.blocks {
            for edge in block.callers.iter().chain(&block.callees) {
                // With an expression, a call between two that match stands at the callee.
                let is_own = edge.to == self.shown.nodes[block.node].index;
                let is_elsewhere = self.blocks.iter().any(|block| self.shown.nodes[block.node].index == edge.to);
                if is_own || !is_elsewhere {
                    out.push_str(&format!(
                        "{},{},{},{}\n",
                        escape::csv(&printable(profile, self.shown.key(edge.from))),
                        escape::csv(&printable(profile, self.shown.key(edge.to))),
                        measure::times(edge.weight, self.options.ratio),
                        edge.is_inlined,
                    ));
                }
            }
        }
        out
    }
}
