//! The passes over all rows that sum them up by node: a first one over values alone, by which nodes are chosen, and a second
//! one for how sure those are that stay. There may be many nodes, of which few matter.

use super::lookup::{Lookup, Paths};
use super::places;
use super::running::{Running, Share, Values};
use super::{Granularity, Graph, Inlined, Node, Options, Sides, SiteRule};
use crate::model::{Columns, PartCache, Profile, Str};
use crate::stats::Estimate;

/// What is made of stacks that end in a node, and of those through it.
struct Both<T> {
    flat: T,
    cum: T,
}

/// A node that is not chosen.
const ABSENT: u32 = u32::MAX;

/// Sums the column `columns` of `profile`.
pub(super) fn sum(profile: &mut Profile, columns: &Columns, options: Options) -> Graph {
    let lookup = Lookup::new(profile, options.granularity, options.with_objects);
    let profile = &*profile;
    let rule = (options.granularity == Granularity::Sites).then(|| SiteRule::new(profile));
    let paths = Paths { profile, lookup: &lookup, rule: rule.as_ref() };
    let mut divisors = options.divisor.map(|_| Divisors::new(lookup.keys.len()));
    let [new, base] = values(&paths, columns, options, divisors.as_mut());
    let net = |index: usize| {
        let of = |new: &Values, base: &Values| new.get(index).saturating_sub(base.get(index));
        (of(&new.flat, &base.flat), of(&new.cum, &base.cum))
    };
    let has_value = |index: usize| {
        let of = |sums: &Both<Values>| sums.flat.get(index) != 0 || sums.cum.get(index) != 0;
        of(&new) || of(&base)
    };
    let is_left_out = |(flat, cum): (i128, i128)| options.drop_negative && (flat < 0 || (flat == 0 && cum < 0));
    let flat_sum = (0..lookup.keys.len())
        .map(net)
        .filter(|&net| !is_left_out(net))
        .fold(0i128, |sum, (flat, _)| sum.saturating_add(flat));
    let least = ((flat_sum as f64 * options.least_share) as i128).unsigned_abs();
    let (mut chosen, mut dropped) = (Vec::new(), 0);
    for index in 0..lookup.keys.len() {
        let (flat, cum) = net(index);
        if is_left_out((flat, cum)) {
            continue;
        }
        if cum.unsigned_abs() < least {
            dropped += usize::from(flat != 0 || cum != 0);
        } else if has_value(index) {
            chosen.push(index);
        }
    }
    let (estimates, [new, base]) = estimates(&paths, columns, options, &chosen);
    let divisor_of = |index: usize| divisors.as_ref().map_or((0, 0), |d| (d.flat[index], d.cum[index].0));
    let node = |(at, &index): (usize, &usize)| {
        let [new, base] = &estimates;
        let of = |new: &Running, base: &Running, divisor: i128| Sides {
            new: new.estimate(at),
            base: base.estimate(at),
            divisor,
        };
        let (flat_divisor, cum_divisor) = divisor_of(index);
        Node {
            index: index as u32,
            key: lookup.keys[index],
            flat: of(&new.flat, &base.flat, flat_divisor),
            cum: of(&new.cum, &base.cum, cum_divisor),
            place: (Str::EMPTY, 0),
            inlined: Inlined::No,
        }
    };
    let mut nodes: Vec<Node> = chosen.iter().enumerate().map(node).collect();
    places::find(&paths, columns, &mut nodes);
    let divisor = divisors.map_or(0, |divisors| divisors.total);
    Graph { nodes, total: Sides { new, base, divisor }, dropped, flat_sum, lookup, options }
}

/// The values of all nodes, for each side.
fn values(
    paths: &Paths<'_>,
    columns: &Columns,
    options: Options,
    mut divisors: Option<&mut Divisors>,
) -> [Both<Values>; 2] {
    let (profile, nodes) = (paths.profile, &paths.lookup.nodes);
    let nothing = |length: usize| Both { flat: Values::new(length), cum: Values::new(length) };
    let length = paths.lookup.keys.len();
    let mut sides = [nothing(length), nothing(if profile.has_base() { length } else { 0 })];
    for row in 0..profile.row_count() {
        let value = profile.values(row)[columns.column];
        let divisor = options.divisor.map_or(0, |column| profile.values(row)[column]);
        if value == 0 && divisor == 0 {
            continue;
        }
        let is_new = Graph::is_new(profile, row);
        let Both { flat, cum } = &mut sides[usize::from(!is_new)];
        let leaf = paths.for_each_slot(row, |slot| cum.add(nodes[slot], row as u32, value));
        let leaf = leaf.map_or(paths.lookup.no_stack, |slot| nodes[slot]);
        // That of a row without frames has not been seen yet.
        cum.add(leaf, row as u32, value);
        flat.add(leaf, row as u32, value);
        if let Some(divisors) = &mut divisors {
            divisors.add(paths, row, if is_new { divisor } else { divisor.saturating_neg() }, leaf);
        }
    }
    sides
}

/// The sums of the nodes chosen, in their order, for each side; and of all rows.
fn estimates(
    paths: &Paths<'_>,
    columns: &Columns,
    options: Options,
    chosen: &[usize],
) -> ([Both<Running>; 2], [Estimate; 2]) {
    let (profile, lookup) = (paths.profile, paths.lookup);
    let nothing = Estimate::nothing(columns.weight_of_nothing());
    let none = |length: usize| Both { flat: Running::new(length, nothing), cum: Running::new(length, nothing) };
    let mut sides = [none(chosen.len()), none(if profile.has_base() { chosen.len() } else { 0 })];
    let mut totals = [nothing; 2];
    let mut numbers = vec![ABSENT; lookup.keys.len()];
    chosen.iter().enumerate().for_each(|(at, &index)| numbers[index] = at as u32);
    let of_slot: Vec<u32> = lookup.nodes.iter().map(|&node| numbers[node as usize]).collect();
    let mut parts = PartCache::default();
    for row in 0..profile.row_count() {
        let value = profile.values(row)[columns.column];
        let divisor = options.divisor.map_or(0, |column| profile.values(row)[column]);
        if value == 0 && divisor == 0 {
            continue;
        }
        let part = columns.part(profile, row, &mut parts);
        let side = usize::from(!Graph::is_new(profile, row));
        totals[side].add(value, part.as_ref());
        if chosen.is_empty() {
            continue;
        }
        let share = Share::new(row, value, part.as_ref());
        let Both { flat, cum } = &mut sides[side];
        let leaf = paths.for_each_slot(row, |slot| {
            if of_slot[slot] != ABSENT {
                cum.add(of_slot[slot], &share);
            }
        });
        let leaf = leaf.map_or(numbers[lookup.no_stack as usize], |slot| of_slot[slot]);
        if leaf != ABSENT {
            cum.add(leaf, &share);
            flat.add(leaf, &share);
        }
    }
    (sides, totals)
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

    /// Adds a row, which ends in `leaf`.
    fn add(&mut self, paths: &Paths<'_>, row: usize, value: i64, leaf: u32) {
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
        paths.for_each_slot(row, |slot| add(paths.lookup.nodes[slot]));
        add(leaf);
    }
}
