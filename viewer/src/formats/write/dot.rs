//! Graphviz' DOT: functions as boxes, calls as arrows, both as large as what they hold.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use super::frames::Frames;
use super::{program, rows};
use crate::model::{BaseUse, Profile};
use crate::{escape, measure};

/// Boxes that are drawn at most; a drawing of more tells nobody anything.
const MAX_NODES: usize = 80;
/// What holds a smaller share of the total is not drawn.
const NODE_SHARE: f64 = 0.005;
const EDGE_SHARE: f64 = 0.001;

/// The file, for one column.
pub fn text(profile: &Profile, column: usize) -> String {
    let frames = Frames::new(profile, false);
    let count = frames.list.len();
    let (mut flat, mut cum) = (vec![0i128; count], vec![0i128; count]);
    let mut calls: BTreeMap<(u32, u32), i128> = BTreeMap::new();
    let mut total = 0i128;
    let mut stacks = Vec::new();
    for (row, value) in rows(profile, column) {
        let stack = frames.stack(profile, row);
        let value = i128::from(value);
        total += value.abs();
        let mut seen = HashSet::new();
        for &frame in stack.iter().filter(|&&frame| seen.insert(frame)) {
            cum[frame as usize] += value;
        }
        if let Some(&leaf) = stack.last() {
            flat[leaf as usize] += value;
        }
        stacks.push((stack, value));
    }
    // Of a comparison, 100 % is the base, as in tables; what has grown may be more.
    let is_comparison = profile.has_base();
    let change = stacks.iter().fold(0i128, |sum, (_, value)| sum.saturating_add(*value));
    if is_comparison {
        total = profile.hundred_percent(column, BaseUse::Compare, None);
    }
    let share = |value: i128| if total == 0 { 0.0 } else { (value.abs() as f64 / total as f64).min(1.0) };
    let mut order: Vec<u32> = (0..count as u32).filter(|&n| share(cum[n as usize]) >= NODE_SHARE).collect();
    order.sort_by_key(|&n| (std::cmp::Reverse(cum[n as usize].abs()), n));
    let left_out = order.len().saturating_sub(MAX_NODES);
    order.truncate(MAX_NODES);
    let drawn: HashSet<u32> = order.iter().copied().collect();
    // Calls through what is not drawn are drawn dotted, from the last box to the next one.
    let mut indirect: HashSet<(u32, u32)> = HashSet::new();
    for (stack, value) in &stacks {
        let (mut last, mut skipped, mut seen) = (None, false, HashSet::new());
        for &frame in stack {
            if !drawn.contains(&frame) {
                skipped = true;
                continue;
            }
            if let Some(last) = last
                && seen.insert((last, frame))
            {
                *calls.entry((last, frame)).or_default() += value;
                if skipped {
                    indirect.insert((last, frame));
                }
            }
            (last, skipped) = (Some(frame), false);
        }
    }

    let unit = &profile.sample_types[column].unit;
    let amount = |value: i128| measure::label(value, unit, "auto");
    let kind = &profile.sample_types[column].kind;
    let mut legend = format!("{}: {kind} of {}", program(profile), amount(total));
    if is_comparison {
        legend = format!("{}: change of {kind} by {} from {}", program(profile), amount(change), amount(total));
    }
    let mut out = format!(
        "digraph {} {{\nnode [shape=box, style=filled, fillcolor=\"#f4f4f4\", fontname=\"sans-serif\"];\n",
        escape::dot(program(profile)),
    );
    if left_out > 0 {
        legend.push_str(&format!("\n{left_out} smaller functions are not drawn"));
    }
    let _ = writeln!(out, "label={}; labelloc=t; fontname=\"sans-serif\";", escape::dot(&legend));
    for &node in &order {
        let (flat, cum) = (flat[node as usize], cum[node as usize]);
        let percent = |value: i128| measure::percentage(value, total).trim().to_owned();
        let mut label = format!("{}\n{} ({})", frames.list[node as usize].shown(), amount(flat), percent(flat));
        if cum != flat {
            label.push_str(&format!("\nof {} ({})", amount(cum), percent(cum)));
        }
        let size = 8.0 + 24.0 * share(flat).sqrt();
        let _ = writeln!(out, "N{node} [label={}, fontsize={size:.0}];", escape::dot(&label));
    }
    for (&(from, to), &value) in calls.iter().filter(|&(_, &value)| share(value) >= EDGE_SHARE) {
        let width = 1.0 + 5.0 * share(value);
        let style = if indirect.contains(&(from, to)) { ", style=dotted" } else { "" };
        let _ = writeln!(out, "N{from} -> N{to} [label={}, penwidth={width:.1}{style}];", escape::dot(&amount(value)),);
    }
    out.push_str("}\n");
    out
}
