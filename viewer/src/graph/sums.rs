//! The pass over all rows that sums them up by node.

use super::lookup::Lookup;
use super::places;
use super::running::{Running, Share};
use super::{Granularity, Graph, Inlined, Node, Options, Sides, SiteRule};
use crate::model::{Columns, PartCache, Profile, Str};
use crate::stats::Estimate;

/// The sums of one side: by node, of stacks through it and of stacks that end in it.
struct SideSums {
    cum: Running,
    flat: Running,
}

impl SideSums {
    fn new(nodes: usize, nothing: Estimate) -> Self {
        Self { cum: Running::new(nodes, nothing), flat: Running::new(nodes, nothing) }
    }
}

/// Sums the column `columns` of `profile`.
pub(super) fn sum(profile: &mut Profile, columns: &Columns, options: Options) -> Graph {
    let lookup = Lookup::new(profile, options.granularity, options.with_objects);
    let nothing = Estimate::nothing(columns.weight_of_nothing());
    let nodes = lookup.keys.len();
    let mut sides = [SideSums::new(nodes, nothing), SideSums::new(0, nothing)];
    if profile.has_base() {
        sides[1] = SideSums::new(nodes, nothing);
    }
    let mut totals = [nothing; 2];
    let mut divisors = options.divisor.map(|_| Divisors::new(nodes));
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
        totals[side].add(value, part);
        let share = Share::new(row, value, part);
        let SideSums { cum, flat } = &mut sides[side];
        let stack = profile.stack(row);
        let leaf = match &rule {
            Some(rule) => rule.site_of(profile, stack).map(|(location, line)| lookup.range(location).start + line),
            None => {
                for &location in stack {
                    lookup.nodes[lookup.range(location)].iter().for_each(|&node| cum.add(node, &share));
                }
                stack.first().map(|&location| lookup.range(location).start)
            }
        };
        let node = leaf.map_or(lookup.no_stack, |at| lookup.nodes[at]);
        if rule.is_some() || leaf.is_none() {
            cum.add(node, &share);
        }
        flat.add(node, &share);
        if let Some(divisors) = &mut divisors {
            let divisor = if is_new { divisor } else { divisor.saturating_neg() };
            divisors.add(profile, &lookup, row, divisor, node, rule.is_some() || leaf.is_none());
        }
    }

    let [new, base] = &sides;
    let node = |index: usize| {
        let (flat_divisor, cum_divisor) =
            divisors.as_ref().map_or((0, 0), |d| (d.flat[index], d.cum[index].0));
        let of = |new: &Running, base: &Running, divisor: i128| Sides {
            new: new.estimate(index),
            base: base.estimate(index),
            divisor,
        };
        Node {
            index: index as u32,
            key: lookup.keys[index],
            flat: of(&new.flat, &base.flat, flat_divisor),
            cum: of(&new.cum, &base.cum, cum_divisor),
            place: (Str::EMPTY, 0),
            inlined: Inlined::No,
        }
    };
    let net = |index: usize| {
        let of = |new: &Running, base: &Running| new.value(index).saturating_sub(base.value(index));
        (of(&new.flat, &base.flat), of(&new.cum, &base.cum))
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
    places::find(profile, columns, rule.as_ref(), &lookup, &mut list);
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
            lookup.nodes[lookup.range(location)].iter().for_each(|&node| add(node));
        }
    }
}
