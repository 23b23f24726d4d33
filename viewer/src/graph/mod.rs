//! Sums by function, line, file, address or site: what stands in the tables.
//!
//! `flat` is what stacks ending in a node hold, `cum` what stacks through it hold, a recursive node
//! counted once. Nodes are told apart as `go tool pprof` does it: by name where functions are asked
//! for, by name, file and line where lines are, and so on; a frame without a name is known by its
//! binary. A *site* is this tool's own addition: the innermost frame that is neither the language's
//! library nor a wrapper of malloc, with flat sums attributed to it.
//!
//! Sums are made in one pass over the rows ([`sums`]); the source lines that hold most, where a node has several, in a
//! second one ([`places`]); calls between nodes, where a report needs them, in another one over the nodes that it shows
//! ([`edges`]).

mod edges;
mod lookup;
mod members;
mod name;
mod places;
mod running;
mod site;
mod sums;
mod trim;

pub use edges::{Edge, Edges};
pub use name::{clean_path, printable};
pub use site::{SiteRule, is_plumbing};
pub use trim::{Trim, Trimmed};

use std::cmp::Ordering;

use crate::model::{Columns, Profile, Side, Str};
use crate::stats::{Change, Estimate};

use lookup::Lookup;

/// What makes two frames the same node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    /// One node per function name.
    #[default]
    Functions,
    /// One node per function name and file.
    FileFunctions,
    /// One node per function, file and line.
    Lines,
    /// One node per source file.
    Files,
    /// One node per address.
    Addresses,
    /// One node per site's function; sums are of the stacks whose site it is.
    Sites,
}

/// What identifies a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Key {
    /// Function name; empty where unknown.
    pub name: Str,
    /// Source file; empty where not asked for.
    pub file: Str,
    /// Line; 0 where not asked for.
    pub line: i64,
    /// Address; 0 where not asked for.
    pub address: u64,
    /// Binary; only where there is no name, or where binaries are asked for.
    pub object: Str,
    /// First line of the function, where the binary is given.
    pub start_line: i64,
}

/// A sum for each side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sides {
    /// The profile asked about.
    pub new: Estimate,
    /// What it is compared with.
    pub base: Estimate,
    /// Number of blocks, for means; 0 where they are not asked for.
    pub divisor: i128,
}

impl Sides {
    /// Adds another sum.
    pub fn merge(&mut self, more: &Self) {
        self.new.merge(&more.new);
        self.base.merge(&more.base);
        self.divisor = self.divisor.saturating_add(more.divisor);
    }

    /// New minus base.
    pub fn net(&self) -> i128 {
        self.new.value.saturating_sub(self.base.value)
    }

    /// What a table shows: the net sum, or the mean where there is a divisor.
    pub fn shown(&self) -> i128 {
        if self.divisor == 0 { self.net() } else { self.net() / self.divisor }
    }

    /// The change with its interval.
    pub fn change(&self) -> Change {
        Change::between(&self.base, &self.new)
    }

    /// Samples of both sides.
    pub fn samples(&self) -> f64 {
        self.new.samples + self.base.samples
    }
}

/// One row of a table.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its number among all nodes, by which [`Edges`] know it.
    pub index: u32,
    /// What it is.
    pub key: Key,
    /// Sums of the stacks that end here.
    pub flat: Sides,
    /// Sums of the stacks that go through here.
    pub cum: Sides,
    /// The source line that holds most of it: file and line.
    pub place: (Str, i64),
    /// Whether all of its frames, or some, were inlined into their callers.
    pub inlined: Inlined,
}

/// How a node was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Inlined {
    /// Called.
    #[default]
    No,
    /// Inlined in some places.
    Partly,
    /// Inlined everywhere.
    Yes,
}

/// How sums are made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What makes a node.
    pub granularity: Granularity,
    /// Functions of different binaries are different nodes.
    pub with_objects: bool,
    /// Rows of the base cancel equal rows: what cancels makes no calls.
    pub cancels: bool,
    /// The column of blocks to divide by.
    pub divisor: Option<usize>,
    /// Nodes below this share of the sum of all flat changes are left out.
    pub least_share: f64,
    /// Nodes whose change is negative are left out.
    pub drop_negative: bool,
}

/// The nodes of a profile and its total.
#[derive(Debug)]
pub struct Graph {
    /// Nodes with a value that are not left out, in no particular order.
    pub nodes: Vec<Node>,
    /// Sums over all rows, each with its own sign.
    pub total: Sides,
    /// How many nodes whose sums have not cancelled out are left out for being small.
    pub dropped: usize,
    /// Sum of the flat changes of all nodes, small or not.
    pub flat_sum: i128,
    lookup: Lookup,
    options: Options,
}

/// The name given to rows without any frame.
pub const NO_STACK: &str = "[unknown stack]";

impl Graph {
    /// The nodes that a table has: those of pprof, whose sums have not cancelled out.
    pub fn drop_cancelled(&mut self) {
        self.nodes.retain(|node| node.flat.net() != 0 || node.cum.net() != 0);
    }

    /// Sorts by flat or cumulative size of the change, then by name as pprof does.
    pub fn sort(&mut self, profile: &Profile, by_cum: bool) {
        let size = |sides: &Sides| sides.net().unsigned_abs();
        self.nodes.sort_unstable_by(|a, b| {
            let pick = |node: &Node| {
                let (flat, cum) = (size(&node.flat), size(&node.cum));
                if by_cum { (cum, flat) } else { (flat, cum) }
            };
            let ((a_first, a_second), (b_first, b_second)) = (pick(a), pick(b));
            b_first
                .cmp(&a_first)
                .then_with(|| order_by_name(profile, &a.key, &b.key))
                .then_with(|| b_second.cmp(&a_second))
                .then_with(|| name::order_by_identity(profile, &a.key, &b.key))
        });
    }

    /// What a column's rows say of themselves, side included.
    fn is_new(profile: &Profile, row: usize) -> bool {
        profile.side(row) == Side::New
    }

    /// Sums the column `columns` of `profile`.
    pub fn new(profile: &mut Profile, columns: &Columns, options: Options) -> Self {
        sums::sum(profile, columns, options)
    }
}

/// The order of printed names.
pub(crate) fn order_by_name(profile: &Profile, a: &Key, b: &Key) -> Ordering {
    printable(profile, a).cmp(&printable(profile, b))
}
