//! All control names as a tree, so that a name is found by its components and a number (MIB) by its positions.
//!
//! The names come from flat tables, the heap's and its observer's. The tree is made when somebody asks for the first
//! time, in metadata memory, and stays.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::node::Handler;
use super::{Code, DEPTH_MAX, HeapControl, Node, TABLES, indices};

/// No such name, and no further ones.
const NONE: u16 = u16::MAX;

/// A component of names.
#[derive(Debug)]
struct Branch {
    /// A word, or `<i>` for an index.
    word: &'static str,
    /// What to call when a name ends here.
    handler: Option<Handler>,
    /// The components that may follow: `count` from `first` on.
    first: u16,
    count: u16,
    /// While the tree is made: the flat names that come through here, linked.
    head: u16,
    tail: u16,
}

/// The tree.
#[derive(Debug)]
pub struct Names {
    branches: &'static [Branch],
}

/// The place of the tree in a heap.
#[derive(Debug)]
pub(crate) struct NamesCell {
    names: AtomicPtr<Names>,
}

impl NamesCell {
    pub(crate) const fn new() -> Self {
        NamesCell { names: AtomicPtr::new(null_mut()) }
    }

    /// The tree, made if need be; `None`: no memory.
    pub(crate) fn get(&self, heap: &'static dyn HeapControl) -> Option<&'static Names> {
        let known = self.names.load(Ordering::Acquire);
        if !known.is_null() {
            // SAFETY: once there, it stays for ever.
            return Some(unsafe { &*known });
        }
        let branches = build(heap)?;
        let memory = heap.allocate_metadata(core::mem::size_of::<Names>())?.cast::<Names>();
        // SAFETY: fresh memory, which is never given back.
        unsafe { memory.write(Names { branches }) };
        // Two threads may make one each at the same time; the second one's is lost.
        match self.names.compare_exchange(null_mut(), memory, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: as above.
            Ok(_) => Some(unsafe { &*memory }),
            // SAFETY: as above.
            Err(winner) => Some(unsafe { &*winner }),
        }
    }
}

/// All flat names.
fn all(heap: &'static dyn HeapControl) -> impl Iterator<Item = &'static Node> {
    TABLES.iter().copied().flatten().chain(heap.observer_nodes())
}

/// An array in metadata memory.
fn array<T>(heap: &'static dyn HeapControl, length: usize) -> Option<*mut T> {
    Some(heap.allocate_metadata(length * core::mem::size_of::<T>())?.cast())
}

/// Sorts the flat names into branches, level by level, so that those that follow one lie side by side.
fn build(heap: &'static dyn HeapControl) -> Option<&'static [Branch]> {
    let count = all(heap).count();
    // Each name ends in a branch of its own; there are fewer that lead to several names than names.
    let room = 2 * count + 1;
    if room > NONE as usize {
        return None;
    }
    let nodes: *mut &'static Node = array(heap, count)?;
    let next: *mut u16 = array(heap, count)?;
    let branches: *mut Branch = array(heap, room)?;
    // SAFETY: fresh arrays of these lengths; the links are initialised before they are followed, and indices are those
    // of nodes and of branches made so far.
    unsafe {
        for (i, node) in all(heap).enumerate() {
            nodes.add(i).write(node);
            next.add(i).write(if i + 1 < count { i as u16 + 1 } else { NONE });
        }
        let root = Branch { word: "", handler: None, first: 0, count: 0, head: 0, tail: count as u16 - 1 };
        branches.write(root);
        // How many branches there are, and the depth and end of the level that is being parted.
        let (mut made, mut depth, mut level_end) = (1, 0, 1);
        let mut at = 0;
        while at < made {
            if at == level_end {
                depth += 1;
                level_end = made;
            }
            let branch = &mut *branches.add(at);
            branch.first = made as u16;
            let mut i = branch.head;
            while i != NONE {
                let node = *nodes.add(i.into());
                let following = next.add(i.into()).replace(NONE);
                match node.name.split('.').nth(depth) {
                    None => branch.handler = Some(node.handler),
                    Some(word) => {
                        let known = (branch.first as usize..made).find(|&k| (*branches.add(k)).word == word);
                        match known {
                            Some(k) => {
                                let known = &mut *branches.add(k);
                                next.add(known.tail.into()).write(i);
                                known.tail = i;
                            }
                            None if made == room => return None,
                            None => {
                                let fresh = Branch { word, handler: None, first: 0, count: 0, head: i, tail: i };
                                branches.add(made).write(fresh);
                                made += 1;
                            }
                        }
                    }
                }
                i = following;
            }
            branch.count = made as u16 - branch.first;
            at += 1;
        }
        Some(core::slice::from_raw_parts(branches, made))
    }
}

impl Names {
    fn followers(&self, branch: &Branch) -> &'static [Branch] {
        &self.branches[branch.first as usize..][..branch.count as usize]
    }

    /// The branch that a component leads to, and the component's number.
    fn step(
        &self,
        heap: &'static dyn HeapControl,
        branch: &'static Branch,
        parent: &'static str,
        word: &str,
    ) -> Option<(&'static Branch, usize)> {
        let followers = self.followers(branch);
        match followers {
            [only] if only.word == "<i>" => {
                let index = index_of(word)?;
                indices::exists(heap, parent, branch.word, index).then_some((only, index))
            }
            _ => {
                let position = followers.iter().position(|follower| follower.word == word)?;
                Some((&followers[position], position))
            }
        }
    }

    /// The number of a name; `mib` takes as many components as the name has, or as there is room for. Returns how many,
    /// and the handler if the name is whole and there was room for it.
    pub(super) fn find(
        &self,
        heap: &'static dyn HeapControl,
        name: &[u8],
        mib: &mut [usize],
    ) -> Result<(usize, Option<Handler>), Code> {
        let name = core::str::from_utf8(name).map_err(|_| Code::ENOENT)?;
        let mut branch = &self.branches[0];
        let mut parent = "";
        let mut depth = 0;
        for word in name.split('.') {
            let Some(slot) = mib.get_mut(depth) else { return Ok((depth, None)) };
            let above = branch.word;
            (branch, *slot) = self.step(heap, branch, parent, word).ok_or(Code::ENOENT)?;
            parent = above;
            depth += 1;
        }
        Ok((depth, branch.handler))
    }

    /// The handler of a number.
    pub(super) fn at(&self, heap: &'static dyn HeapControl, mib: &[usize]) -> Result<Handler, Code> {
        let mut branch = &self.branches[0];
        let mut parent = "";
        for &number in mib.iter().take(DEPTH_MAX + 1) {
            let above = branch.word;
            let followers = self.followers(branch);
            branch = match followers {
                [only] if only.word == "<i>" => {
                    if !indices::exists(heap, parent, branch.word, number) {
                        return Err(Code::ENOENT);
                    }
                    only
                }
                _ => followers.get(number).ok_or(Code::ENOENT)?,
            };
            parent = above;
        }
        branch.handler.ok_or(Code::ENOENT)
    }
}

fn index_of(word: &str) -> Option<usize> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) { None } else { word.parse().ok() }
}
