//! Which nodes and calls a report shows: pprof's cuts, in pprof's order.

use super::{Edges, Granularity, Graph, Node, Options, Sides};
use crate::measure;
use crate::model::{Columns, Profile};

/// What to leave out.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    /// Sort by cumulative sums.
    pub by_cum: bool,
    /// Nodes to show; 0 for all.
    pub node_count: usize,
    /// Nodes below this share of the total are left out.
    pub node_fraction: f64,
    /// Calls below this share of the total are left out.
    pub edge_fraction: f64,
    /// Nodes whose change is negative are left out.
    pub drop_negative: bool,
}

/// A graph with what is shown of it.
#[derive(Debug)]
pub struct Trimmed {
    /// The nodes shown, in their order.
    pub nodes: Vec<Node>,
    /// The calls shown.
    pub edges: Edges,
    /// Sums over all rows.
    pub total: Sides,
    /// How many nodes lie below the share.
    pub dropped: usize,
    /// How many nodes lie above it, shown or not.
    pub candidates: usize,
    graph: Graph,
}

impl Trimmed {
    /// Sums `profile` up and cuts. Calls are looked at only `with_calls`, or where functions are inlined.
    pub fn new(profile: &mut Profile, columns: &Columns, options: Options, trim: Trim, with_calls: bool) -> Self {
        let options = Options { least_share: trim.node_fraction, drop_negative: trim.drop_negative, ..options };
        let mut graph = Graph::new(profile, columns, options);
        let mut nodes = core::mem::take(&mut graph.nodes);
        nodes.retain(|node| node.flat.net() != 0 || node.cum.net() != 0);
        let share = |fraction: f64| ((graph.flat_sum as f64 * fraction) as i128).unsigned_abs();
        let edge_least = share(trim.edge_fraction);
        let dropped = graph.dropped;
        let before = nodes.len() + dropped;
        let candidates = nodes.len();
        graph.nodes = nodes;
        graph.sort(profile, trim.by_cum);
        let mut nodes = core::mem::take(&mut graph.nodes);
        if trim.node_count > 0 {
            nodes.truncate(trim.node_count);
        }
        let mut edges = Edges::default();
        if options.granularity != Granularity::Sites && (with_calls || graph.has_inlined()) {
            // pprof makes its graph anew, of the nodes shown alone, only if that leaves any out.
            let kept = (nodes.len() < before).then(|| {
                let mut kept = vec![false; graph.node_numbers()];
                nodes.iter().for_each(|node| kept[node.index as usize] = true);
                kept
            });
            edges = graph.edges(profile, columns, kept.as_deref());
            edges.drop_below(edge_least, &nodes);
            edges.mark_inlined(&mut nodes);
        }
        let total = graph.total;
        Self { nodes, edges, total, dropped, candidates, graph }
    }

    /// The identity of a node by its number, shown or not.
    pub fn key(&self, node: u32) -> &super::Key {
        self.graph.key(node)
    }

    /// One unit for all that is shown: the one in which the smallest value still shows.
    pub fn unit(&self, total: i128, from: &str, ratio: f64) -> String {
        let smallest = self
            .nodes
            .iter()
            .map(|node| match node.flat.shown() {
                0 => node.cum.shown().saturating_abs(),
                flat => flat.saturating_abs(),
            })
            .filter(|&value| value > 0)
            .min();
        if self.nodes.is_empty() {
            return "minimum".to_owned();
        }
        let scaled = |value: i128| measure::times(value, ratio);
        measure::table_unit(scaled(smallest.unwrap_or(total)), scaled(total), from)
    }
}
