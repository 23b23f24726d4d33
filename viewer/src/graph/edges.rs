//! Calls between the nodes that a report shows.
//!
//! As in pprof, a call that leads over nodes which are not shown joins those on either side of them, a row
//! counts once for each call however often it is made, and calls below a share of the total are left out.

use hashbrown::{HashMap, HashSet};

use super::{Graph, Inlined, Node};
use crate::model::{Columns, Profile};

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Edge {
    /// The caller's number.
    pub from: u32,
    /// The callee's number.
    pub to: u32,
    /// What goes through it: new minus base.
    pub weight: i128,
    /// It is inlined wherever it is made.
    pub is_inlined: bool,
    /// The last row counted.
    row: u32,
}

/// All calls, by caller and callee.
#[derive(Debug, Default)]
pub struct Edges {
    list: HashMap<(u32, u32), Edge>,
}

/// A node that was not kept.
const DROPPED: u32 = u32::MAX;

impl Graph {
    /// The calls between nodes; with `kept`, only between the nodes of those numbers.
    pub fn edges(&self, profile: &Profile, columns: &Columns, kept: Option<&[bool]>) -> Edges {
        let mut edges = Edges::default();
        let lookup = &self.lookup;
        let nodes: Vec<u32> = lookup
            .nodes
            .iter()
            .map(|&node| match kept {
                Some(kept) if !kept[node as usize] => DROPPED,
                _ => node,
            })
            .collect();
        let cancelled = self.options.cancels.then(|| cancelled_rows(profile, columns.column, self.options.divisor));
        for row in 0..profile.row_count() {
            let value = profile.values(row)[columns.column];
            let divisor = self.options.divisor.map_or(0, |column| profile.values(row)[column]);
            if (value == 0 && divisor == 0) || cancelled.as_ref().is_some_and(|rows| rows[row]) {
                continue;
            }
            let value = i128::from(value);
            let value = if Graph::is_new(profile, row) { value } else { -value };
            let mut parent = DROPPED;
            for &location in profile.stack(row).iter().rev() {
                let range = lookup.range(location);
                let end = range.end;
                for at in range.rev() {
                    let node = nodes[at];
                    if node == DROPPED {
                        continue;
                    }
                    if parent != DROPPED && parent != node {
                        edges.add((parent, node), row as u32, at + 1 != end, value);
                    }
                    parent = node;
                }
            }
        }
        edges
    }

    /// Whether any function is inlined anywhere, so that calls must be looked at to mark it.
    pub fn has_inlined(&self) -> bool {
        self.lookup.has_inlined
    }

    /// How many numbers nodes have.
    pub fn node_numbers(&self) -> usize {
        self.lookup.keys.len()
    }

    /// The identity of a node by its number.
    pub fn key(&self, node: u32) -> &super::Key {
        &self.lookup.keys[node as usize]
    }
}

/// Rows that, with their equals on both sides, sum to nothing, in the column of blocks for means as well.
fn cancelled_rows(profile: &Profile, column: usize, divisor: Option<usize>) -> Vec<bool> {
    let groups = profile.groups_as_read();
    let mut sums = vec![[0i128; 2]; groups.iter().max().map_or(0, |&last| last as usize + 1)];
    for (row, &group) in groups.iter().enumerate() {
        let values = profile.values(row);
        for (sum, column) in sums[group as usize].iter_mut().zip([Some(column), divisor]) {
            let value = column.map_or(0, |column| i128::from(values[column]));
            let value = if Graph::is_new(profile, row) { value } else { -value };
            *sum = sum.saturating_add(value);
        }
    }
    groups.iter().map(|&group| sums[group as usize] == [0; 2]).collect()
}

impl Edges {
    fn add(&mut self, call: (u32, u32), row: u32, is_inlined: bool, weight: i128) {
        let edge = self.list.entry(call).or_insert(Edge {
            from: call.0,
            to: call.1,
            weight: 0,
            is_inlined: true,
            row: u32::MAX,
        });
        if edge.row != row {
            edge.row = row;
            edge.is_inlined &= is_inlined;
            edge.weight = edge.weight.saturating_add(weight);
        }
    }

    /// Leaves out calls of `nodes` that weigh less than `least`. As in pprof, calls of what is no node of the graph, since
    /// it shrank or cancelled out, stay.
    pub fn drop_below(&mut self, least: u128, nodes: &[Node]) {
        let callees: HashSet<u32> = nodes.iter().map(|node| node.index).collect();
        self.list.retain(|_, edge| edge.weight.unsigned_abs() >= least || !callees.contains(&edge.to));
    }

    /// All calls, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Edge> {
        self.list.values()
    }

    /// Marks the nodes that are inlined into all callers, or into some.
    pub fn mark_inlined(&self, nodes: &mut [Node]) {
        let mut seen: HashMap<u32, (bool, bool)> = HashMap::new();
        for edge in self.list.values() {
            let (inlined, called) = seen.entry(edge.to).or_default();
            *inlined |= edge.is_inlined;
            *called |= !edge.is_inlined;
        }
        for node in nodes {
            node.inlined = match seen.get(&node.index) {
                Some((true, true)) => Inlined::Partly,
                Some((true, false)) => Inlined::Yes,
                _ => Inlined::No,
            };
        }
    }
}
