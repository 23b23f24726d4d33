//! The pass over all rows that sums them up by node.

use hashbrown::HashMap;

use super::lookup::Lookup;
use super::{Granularity, Graph, Inlined, Node, Options, Sides, SiteRule};
use crate::model::{Columns, PartCache, Profile, Str};
use crate::stats::Estimate;

/// A sum while it is made, with the last row that was added to it.
#[derive(Clone, Copy)]
struct Sum {
    estimate: Estimate,
    row: u32,
}

/// The sums of one side: by node, of stacks through it and of stacks that end in it.
struct SideSums {
    cum: Vec<Sum>,
    flat: Vec<Estimate>,
}

impl SideSums {
    fn new(nodes: usize, nothing: Estimate) -> Self {
        Self { cum: vec![Sum { estimate: nothing, row: u32::MAX }; nodes], flat: vec![nothing; nodes] }
    }
}

/// Sums the column `columns` of `profile`.
pub(super) fn sum(profile: &mut Profile, columns: &Columns, options: Options) -> Graph {
    let mut lookup = Lookup::new(profile, options.granularity, options.with_objects);
    let nothing = Estimate::nothing(columns.weight_of_nothing());
    let nodes = lookup.keys.len();
    let mut sides = [SideSums::new(nodes, nothing), SideSums::new(0, nothing)];
    if profile.has_base() {
        sides[1] = SideSums::new(nodes, nothing);
    }
    let mut totals = [nothing; 2];
    let mut divisors = options.divisor.map(|_| Divisors::new(nodes));
    let mut flat_sizes = vec![0u64; lookup.slots.len()];
    let rule = (options.granularity == Granularity::Sites).then(|| SiteRule::new(profile));
    let mut parts = PartCache::default();

    for row in 0..profile.row_count() {
        let value = profile.values(row)[columns.column];
        let divisor = options.divisor.map_or(0, |column| profile.values(row)[column]);
        if value == 0 && divisor == 0 {
            continue;
        }
        let part = columns.part(profile, row, &mut parts);
        let part = part.as_ref();
        let is_new = Graph::is_new(profile, row);
        let side = usize::from(!is_new);
        let size = value.unsigned_abs();
        totals[side].add(value, part);
        let SideSums { cum, flat } = &mut sides[side];
        let stack = profile.stack(row);
        let leaf = match &rule {
            Some(rule) => rule.site_of(profile, stack).map(|(location, line)| {
                let at = lookup.range(location).start + line;
                lookup.slots[at].size = lookup.slots[at].size.saturating_add(size);
                cum[lookup.slots[at].node as usize].estimate.add(value, part);
                at
            }),
            None => {
                let mut leaf = None;
                for &location in stack.iter().rev() {
                    let range = lookup.range(location);
                    leaf = Some(range.start);
                    for slot in lookup.slots[range].iter_mut().rev() {
                        slot.size = slot.size.saturating_add(size);
                        let sum = &mut cum[slot.node as usize];
                        if sum.row != row as u32 {
                            sum.row = row as u32;
                            sum.estimate.add(value, part);
                        }
                    }
                }
                leaf
            }
        };
        let node = match leaf {
            Some(at) => {
                flat_sizes[at] = flat_sizes[at].saturating_add(size);
                lookup.slots[at].node
            }
            None => {
                cum[lookup.no_stack as usize].estimate.add(value, part);
                lookup.no_stack
            }
        };
        flat[node as usize].add(value, part);
        if let Some(divisors) = &mut divisors {
            let divisor = if is_new { divisor } else { divisor.saturating_neg() };
            divisors.add(profile, &lookup, row, divisor, node, rule.is_some() || leaf.is_none());
        }
    }

    let [new, base] = &sides;
    let node = |index: usize| {
        let of = |sums: &[Estimate], other: &[Estimate], divisor: i128| Sides {
            new: sums[index],
            base: other.get(index).copied().unwrap_or(nothing),
            divisor,
        };
        let base_cum = base.cum.get(index).map_or(nothing, |sum| sum.estimate);
        let (flat_divisor, cum_divisor) =
            divisors.as_ref().map_or((0, 0), |d| (d.flat[index], d.cum[index].0));
        Node {
            index: index as u32,
            key: lookup.keys[index],
            flat: of(&new.flat, &base.flat, flat_divisor),
            cum: Sides { new: new.cum[index].estimate, base: base_cum, divisor: cum_divisor },
            place: (Str::EMPTY, 0),
            inlined: Inlined::No,
        }
    };
    let net = |index: usize| {
        let base_of = |sum: Option<i128>| sum.unwrap_or(0);
        let flat = new.flat[index].value.saturating_sub(base_of(base.flat.get(index).map(|sum| sum.value)));
        let cum = &new.cum[index].estimate.value;
        (flat, cum.saturating_sub(base_of(base.cum.get(index).map(|sum| sum.estimate.value))))
    };
    let is_left_out =
        |(flat, cum): (i128, i128)| options.drop_negative && (flat < 0 || (flat == 0 && cum < 0));
    // Only the nodes that stay are made: there may be many, and few that matter.
    let flat_sum = (0..nodes)
        .map(net)
        .filter(|&net| !is_left_out(net))
        .fold(0i128, |sum, (flat, _)| sum.saturating_add(flat));
    let least = ((flat_sum as f64 * options.least_share) as i128).unsigned_abs();
    let (mut list, mut dropped) = (Vec::new(), 0);
    for index in 0..nodes {
        let (flat, cum) = net(index);
        if is_left_out((flat, cum)) {
            continue;
        }
        if cum.unsigned_abs() < least {
            dropped += usize::from(flat != 0 || cum != 0);
            continue;
        }
        let node = node(index);
        if has_value(&node.flat) || has_value(&node.cum) {
            list.push(node);
        }
    }
    find_places(profile, &lookup, &flat_sizes, &mut list);
    let [new, base] = totals;
    let divisor = divisors.map_or(0, |divisors| divisors.total);
    Graph { nodes: list, total: Sides { new, base, divisor }, dropped, flat_sum, lookup, options }
}

fn has_value(sides: &Sides) -> bool {
    sides.new.value != 0 || sides.base.value != 0
}

/// Sums of the column that means divide by; kept apart, since hardly anybody asks for means.
struct Divisors {
    cum: Vec<(i128, u32)>,
    flat: Vec<i128>,
    total: i128,
}

impl Divisors {
    fn new(nodes: usize) -> Self {
        Self { cum: vec![(0, u32::MAX); nodes], flat: vec![0; nodes], total: 0 }
    }

    fn add(
        &mut self,
        profile: &Profile,
        lookup: &Lookup,
        row: usize,
        value: i64,
        leaf: u32,
        only_leaf: bool,
    ) {
        let value = i128::from(value);
        self.total = self.total.saturating_add(value);
        let flat = &mut self.flat[leaf as usize];
        *flat = flat.saturating_add(value);
        let mut add = |node: u32| {
            let (sum, last) = &mut self.cum[node as usize];
            if *last != row as u32 {
                (*sum, *last) = (sum.saturating_add(value), row as u32);
            }
        };
        if only_leaf {
            return add(leaf);
        }
        for &location in profile.stack(row) {
            lookup.slots[lookup.range(location)].iter().for_each(|slot| add(slot.node));
        }
    }
}

/// Finds for each node the file and line that hold most of it, the flat part first.
fn find_places(profile: &Profile, lookup: &Lookup, flat: &[u64], nodes: &mut [Node]) {
    const ABSENT: u32 = u32::MAX;
    let mut numbers = vec![ABSENT; lookup.keys.len()];
    nodes.iter().enumerate().for_each(|(at, node)| numbers[node.index as usize] = at as u32);
    // By file and line rather than by address: a line with many small calls is one place.
    let mut sums: HashMap<(u32, Str, i64), (u64, u64)> = HashMap::new();
    for_each_place(profile, lookup, |slot, node, (file, line)| {
        let at = numbers[node as usize];
        if at != ABSENT {
            let sum = sums.entry((at, file, line)).or_default();
            sum.0 = sum.0.saturating_add(flat[slot]);
            sum.1 = sum.1.saturating_add(lookup.slots[slot].size);
        }
    });
    let mut best = vec![(0, 0); nodes.len()];
    for ((at, file, line), sum) in sums {
        let (best, place) = (&mut best[at as usize], &mut nodes[at as usize].place);
        // Equal sums: the smaller line, so that the answer does not hang on the table's order.
        if sum > *best || (sum == *best && (line, file) < (place.1, place.0)) {
            (*best, *place) = (sum, (file, line));
        }
    }
}

/// Each slot that holds something: its number, its node, and its file and line.
fn for_each_place(profile: &Profile, lookup: &Lookup, mut take: impl FnMut(usize, u32, (Str, i64))) {
    for (index, location) in profile.locations.iter().enumerate() {
        let start = lookup.range(index as u32).start;
        for (depth, line) in location.lines.iter().enumerate() {
            let slot = &lookup.slots[start + depth];
            if slot.size > 0 {
                let file = profile.functions[line.function as usize].file;
                take(start + depth, slot.node, (file, line.line));
            }
        }
    }
}
