//! Which source line holds most of a node. Of most nodes there is one line only; rows are looked at once more for the others.

use hashbrown::HashMap;

use super::Node;
use super::lookup::Paths;
use crate::model::{Columns, Line, Str};

const ABSENT: u32 = u32::MAX;

/// Finds for each node the file and line that hold most of it, the flat part first. All nodes have a value in the column.
pub(super) fn find(paths: &Paths<'_>, columns: &Columns, nodes: &mut [Node]) {
    let lookup = paths.lookup;
    let mut numbers = vec![ABSENT; lookup.keys.len()];
    nodes.iter().enumerate().for_each(|(at, node)| numbers[node.index as usize] = at as u32);
    let mut states = vec![State::Unseen; nodes.len()];
    for_each_place(paths, &numbers, |_, at, place| states[at as usize].see(place));
    // A function may have the name of rows without frames, and these have no place.
    if let Some(state) = states.get_mut(numbers[lookup.no_stack as usize] as usize) {
        state.see(None);
    }
    for (node, state) in nodes.iter_mut().zip(&states) {
        if let State::One(Some(place)) = *state {
            node.place = place;
        }
    }
    numbers.iter_mut().for_each(|at| {
        if states.get(*at as usize) != Some(&State::Several) {
            *at = ABSENT;
        }
    });
    if states.contains(&State::Several) {
        find_heaviest(paths, columns, &numbers, nodes);
    }
}

/// What is known of a node's places.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Unseen,
    One(Option<(Str, i64)>),
    Several,
}

impl State {
    fn see(&mut self, place: Option<(Str, i64)>) {
        *self = match *self {
            Self::Unseen => Self::One(place),
            Self::One(seen) if seen == place => return,
            _ => Self::Several,
        };
    }
}

/// The same for nodes of several places: those that have a number, by which they stand in `nodes`.
fn find_heaviest(paths: &Paths<'_>, columns: &Columns, numbers: &[u32], nodes: &mut [Node]) {
    let profile = paths.profile;
    // By file and line rather than by address: a line with many small calls is one place.
    let mut places: HashMap<(u32, Str, i64), u32> = HashMap::new();
    let mut of_slot = vec![ABSENT; paths.lookup.nodes.len()];
    for_each_place(paths, numbers, |slot, at, place| {
        if let Some((file, line)) = place {
            let new = places.len() as u32;
            of_slot[slot] = *places.entry((at, file, line)).or_insert(new);
        }
    });
    // What stacks that end there hold, and what those through it hold, whatever their sign.
    let mut sums = vec![(0u64, 0u64); places.len()];
    for row in 0..profile.row_count() {
        let size = profile.values(row)[columns.column].unsigned_abs();
        if size == 0 {
            continue;
        }
        let leaf = paths.for_each_slot(row, |slot| {
            if let Some((_, through)) = sums.get_mut(of_slot[slot] as usize) {
                *through = through.saturating_add(size);
            }
        });
        if let Some((ending, _)) = leaf.and_then(|slot| sums.get_mut(of_slot[slot] as usize)) {
            *ending = ending.saturating_add(size);
        }
    }
    let mut best = vec![(0, 0); nodes.len()];
    for ((at, file, line), number) in places {
        let (sum, best, place) = (sums[number as usize], &mut best[at as usize], &mut nodes[at as usize].place);
        if sum.1 == 0 {
            continue;
        }
        // Equal sums: the smaller line, so that the answer does not hang on the table's order.
        if sum > *best || (sum == *best && (line, file) < (place.1, place.0)) {
            (*best, *place) = (sum, (file, line));
        }
    }
}

/// Each slot whose node has a number: its own number, the node's, and its file and line; `None` where it has no line.
fn for_each_place(paths: &Paths<'_>, numbers: &[u32], mut take: impl FnMut(usize, u32, Option<(Str, i64)>)) {
    let Paths { profile, lookup, .. } = *paths;
    for (index, location) in profile.locations.iter().enumerate() {
        for (depth, slot) in lookup.range(index as u32).enumerate() {
            let at = numbers[lookup.nodes[slot] as usize];
            if at != ABSENT {
                let place = |line: &Line| (profile.functions[line.function as usize].file, line.line);
                take(slot, at, location.lines.get(depth).map(place));
            }
        }
    }
}
