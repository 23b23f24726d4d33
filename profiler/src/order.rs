//! Stacks in the order in which dumps write them, root first: those that have callers in common stand together.
//!
//! Many stacks are in memory where they were first seen, and each look at a frame of one that isn't in the processor's
//! cache costs more than all else. So frames are looked at in blocks. Of a group of stacks that agree so far, the bits in
//! which the next frames differ (few: the callers of one function are near one another) are packed into a number for each
//! stack, the numbers are sorted, and stacks of the same number are a group of their own.

use crate::stacks::{Span, StackId, View};

/// Frames that are looked at together.
const BLOCK: usize = 8;
/// Fewer stacks are compared frame by frame.
const FEW: usize = 12;

/// A stack on its way to its place.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// What it differs in from others of its group.
    key: u64,
    /// Its frames.
    pub span: Span,
    /// Its number.
    pub id: StackId,
}

impl Placed {
    /// A stack without a place yet.
    pub fn new(view: &View, id: StackId) -> Self {
        Placed { key: 0, span: view.span(id), id }
    }

    fn depth(&self) -> usize {
        usize::from(self.span.depth)
    }
}

/// Sorts stacks by their frames' addresses, root first; those of the same frames by number.
pub fn sort(view: &View, stacks: &mut [Placed]) {
    sort_from(view, stacks, 0);
}

/// Sorts stacks that agree in their `depth` outermost frames.
fn sort_from(view: &View, mut group: &mut [Placed], mut depth: usize) {
    loop {
        if group.len() <= FEW {
            compare(view, group, depth);
            return;
        }
        let least = group.iter().map(Placed::depth).min().unwrap_or(0);
        let block = (least - depth).min(BLOCK);
        if block == 0 {
            // Some end here. They are the same but for how they end, and come first.
            let mut ended = 0;
            for at in 0..group.len() {
                if group[at].depth() == depth {
                    group.swap(ended, at);
                    ended += 1;
                }
            }
            let (those, others) = group.split_at_mut(ended);
            those.sort_unstable_by_key(|stack| stack.id);
            group = others;
            continue;
        }
        let plan = Plan::new(&differences(view, group, depth, block)[BLOCK - block..]);
        depth += plan.frames;
        if plan.keeps_all_together {
            continue;
        }
        for stack in group.iter_mut() {
            let frames = view.frames(stack.span);
            let end = frames.len() - (depth - plan.frames);
            stack.key = plan.key(&frames[end - plan.frames..end]);
        }
        group.sort_unstable_by_key(|stack| stack.key);
        group = sort_all_but_largest(view, group, depth);
    }
}

/// Sorts the groups of the same key, and returns the largest, which is left to do: so the calls in one another are as many
/// as the group can be halved.
fn sort_all_but_largest<'a>(view: &View, sorted: &'a mut [Placed], depth: usize) -> &'a mut [Placed] {
    let (mut at, mut largest) = (0, 0..0);
    for of_key in sorted.chunk_by(|a, b| a.key == b.key) {
        let all = at..at + of_key.len();
        at = all.end;
        if all.len() > largest.len() {
            largest = all;
        }
    }
    let (before, rest) = sorted.split_at_mut(largest.start);
    let (group, after) = rest.split_at_mut(largest.len());
    for side in [before, after] {
        for of_key in side.chunk_by_mut(|a, b| a.key == b.key) {
            if of_key.len() > 1 {
                sort_from(view, of_key, depth);
            }
        }
    }
    group
}

/// Sorts few stacks.
fn compare(view: &View, group: &mut [Placed], depth: usize) {
    if group.len() < 2 {
        return;
    }
    let rest = |stack: &Placed| {
        let frames = view.frames(stack.span);
        &frames[..frames.len() - depth]
    };
    group.sort_unstable_by(|a, b| rest(a).iter().rev().cmp(rest(b).iter().rev()).then(a.id.cmp(&b.id)));
}

/// The bits in which the `block` frames differ that come after `depth` others, each frame's where it is in memory: the
/// outermost is last.
fn differences(view: &View, group: &[Placed], depth: usize, block: usize) -> [usize; BLOCK] {
    let frames_of = |stack: &Placed| {
        let frames = view.frames(stack.span);
        let end = frames.len() - depth;
        &frames[end - block..end]
    };
    let mut differences = [0; BLOCK];
    if let Ok(first) = <[usize; BLOCK]>::try_from(frames_of(&group[0])) {
        for stack in group {
            if let Ok(frames) = <&[usize; BLOCK]>::try_from(frames_of(stack)) {
                for at in 0..BLOCK {
                    differences[at] |= frames[at] ^ first[at];
                }
            }
        }
    } else {
        let first = frames_of(&group[0]);
        for stack in group {
            for ((difference, frame), first) in differences[BLOCK - block..].iter_mut().zip(frames_of(stack)).zip(first) {
                *difference |= frame ^ first;
            }
        }
    }
    differences
}

/// How the bits in which frames differ are packed.
struct Plan {
    /// For each frame, where it is in memory: how many bits on the left are left out, how many on the right and left
    /// together, and how many there are.
    parts: [(u32, u32, u32); BLOCK],
    /// Frames, from the outermost on, whose bits have room.
    frames: usize,
    keeps_all_together: bool,
}

impl Plan {
    fn new(differences: &[usize]) -> Self {
        let mut plan = Plan { parts: [(0, usize::BITS - 1, 0); BLOCK], frames: 0, keeps_all_together: true };
        let mut room = u64::BITS;
        for &bits in differences.iter().rev() {
            let (left, right) = (bits.leading_zeros(), bits.trailing_zeros());
            let width = (usize::BITS - left).saturating_sub(right);
            if width > room {
                break;
            }
            plan.frames += 1;
            if width > 0 {
                room -= width;
                plan.keeps_all_together = false;
                plan.parts[BLOCK - plan.frames] = (left, left + right, width);
            }
        }
        plan
    }

    /// Greater for frames that come later. They are as many as the plan is for.
    fn key(&self, frames: &[usize]) -> u64 {
        let parts = &self.parts[BLOCK - self.frames..];
        frames.iter().zip(parts).rev().fold(0, |key: u64, (&frame, &(left, both, width))| {
            // Without bits of its own: nothing is shifted, and the frame's last bit on the left is what all have.
            let bits = if width == 0 { 0 } else { (frame << left >> both) as u64 };
            key.unbounded_shl(width) | bits
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stacks::Stacks;
    use crate::unwind::End;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    /// Sorts stacks of `depth_max` frames at most, whose frames `frame` draws, and compares with what sorting them whole gives.
    fn check(stacks: &'static Stacks, count: usize, depth_max: u64, frame: impl Fn(&mut dyn FnMut(u64) -> u64) -> usize) {
        let mut state = 1u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let mut ids = BTreeSet::new();
        for _ in 0..count {
            let frames: Vec<usize> = (0..random(depth_max + 1)).map(|_| frame(&mut random)).collect();
            let end = [End::Complete, End::Truncated, End::Lost][random(3) as usize];
            ids.insert(stacks.intern(&frames, end));
        }
        let view = stacks.view();
        let mut placed: Vec<Placed> = ids.iter().map(|&id| Placed::new(&view, id)).collect();
        let whole = |stack: &Placed| -> (Vec<usize>, StackId) {
            (view.frames(stack.span).iter().rev().copied().collect(), stack.id)
        };
        let mut wanted: Vec<_> = placed.iter().map(whole).collect();
        wanted.sort();
        sort(&view, &mut placed);
        assert_eq!(placed.iter().map(whole).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn stacks_are_sorted_root_first() {
        for count in [0, 1, 5, 13, 300, 5000] {
            for depth in [3, 12, 70] {
                let few: &Stacks = std::boxed::Box::leak(std::boxed::Box::new(Stacks::new()));
                check(few, count, depth, |random| random(3) as usize);
                let apart: &Stacks = std::boxed::Box::leak(std::boxed::Box::new(Stacks::new()));
                check(apart, count, depth, |random| (random(4) * random(1 << 31)) as usize);
                // All bits of a frame differ, and most callers are the same.
                let wild: &Stacks = std::boxed::Box::leak(std::boxed::Box::new(Stacks::new()));
                check(wild, count, depth, |random| if random(9) > 0 { 77 } else { (random(2) as usize).wrapping_neg() });
            }
        }
    }
}
