//! Which rows a node's sums are made of, for what is more than a sum.

use super::{Granularity, Graph, SiteRule};
use crate::model::{Columns, Profile};

impl Graph {
    /// Calls `take` with each row that has a value in the column, and each node that it counts for: with `by_cum` all
    /// nodes that its stack goes through, once each, otherwise the one that it ends in.
    pub fn for_each_member(
        &self,
        profile: &Profile,
        columns: &Columns,
        by_cum: bool,
        mut take: impl FnMut(usize, u32),
    ) {
        let lookup = &self.lookup;
        let rule = (self.options.granularity == Granularity::Sites).then(|| SiteRule::new(profile));
        let mut last_row = if by_cum && rule.is_none() { vec![u32::MAX; lookup.keys.len()] } else { Vec::new() };
        for row in 0..profile.row_count() {
            if profile.values(row)[columns.column] == 0 {
                continue;
            }
            let stack = profile.stack(row);
            let leaf = match &rule {
                Some(rule) => rule.site_of(profile, stack).map(|(location, line)| lookup.range(location).start + line),
                None if by_cum && !stack.is_empty() => {
                    for &location in stack {
                        for &node in &lookup.nodes[lookup.range(location)] {
                            let last = &mut last_row[node as usize];
                            if *last != row as u32 {
                                *last = row as u32;
                                take(row, node);
                            }
                        }
                    }
                    continue;
                }
                None => stack.first().map(|&location| lookup.range(location).start),
            };
            take(row, leaf.map_or(lookup.no_stack, |at| lookup.nodes[at]));
        }
    }
}
