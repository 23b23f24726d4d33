//! `mallctl`: names and numbers for everything that a program may ask of the heap or change in it.
//!
//! Names come from two tables, the heap's and its observer's. A name's number (MIB) has one component for each of its
//! own: for `<i>` the index, for a word the position of the first name in the tables that begins with the components
//! up to it. Positions are stable within a build and mean nothing beyond it, as in jemalloc.

pub mod control;
pub mod node;
mod opt;
mod tree;

pub use control::HeapControl;
pub use node::{Call, Code, Node};
pub(crate) use tree::after_fork;

/// Most components of a name.
pub const DEPTH_MAX: usize = 7;

/// Both tables as one.
#[derive(Clone, Copy)]
struct Names {
    observer: &'static [Node],
}

impl Names {
    fn of(heap: &'static dyn HeapControl) -> Self {
        Names { observer: heap.observer_nodes() }
    }

    fn get(self, position: usize) -> Option<&'static Node> {
        let heap_names = tree::NODES.len() + opt::NODES.len();
        if let Some(node) = tree::NODES.get(position) {
            Some(node)
        } else if position < heap_names {
            opt::NODES.get(position - tree::NODES.len())
        } else {
            self.observer.get(position - heap_names)
        }
    }

    fn all(self) -> impl Iterator<Item = &'static Node> {
        (0..).map_while(move |position| self.get(position))
    }

    /// The first name that begins with the first `components` components of `name`.
    fn first_with(self, name: &str, components: usize) -> usize {
        let prefix = || name.split('.').take(components);
        self.all()
            .position(|node| node.name.split('.').take(components).eq(prefix()))
            .unwrap_or(usize::MAX)
    }
}

/// Finds the number of a name; `mib[..]` takes as many components as the name has, or as there is room for.
fn find(names: Names, name: &[u8], mib: &mut [usize]) -> Result<usize, Code> {
    let name = core::str::from_utf8(name).map_err(|_| Code::ENOENT)?;
    let wanted = name.split('.').count();
    if wanted > DEPTH_MAX || name.is_empty() {
        return Err(Code::ENOENT);
    }
    let matches = |node: &Node| {
        node.name.split('.').count() >= wanted
            && node.name.split('.').zip(name.split('.')).all(|(pattern, word)| {
                pattern == word || (pattern == "<i>" && index_of(word).is_some())
            })
    };
    let node = names.all().find(|node| matches(node)).ok_or(Code::ENOENT)?;
    for (k, (pattern, word)) in node.name.split('.').zip(name.split('.')).enumerate() {
        let Some(slot) = mib.get_mut(k) else { return Ok(k) };
        *slot = match index_of(word) {
            Some(index) if pattern == "<i>" => index,
            _ => names.first_with(node.name, k + 1),
        };
    }
    Ok(wanted)
}

fn index_of(word: &str) -> Option<usize> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) { None } else { word.parse().ok() }
}

/// The name that a full number stands for.
fn at(names: Names, mib: &[usize]) -> Result<&'static Node, Code> {
    let (&last, _) = mib.split_last().ok_or(Code::ENOENT)?;
    let node = names.get(last).ok_or(Code::ENOENT)?;
    let mut components = 0;
    for (k, pattern) in node.name.split('.').enumerate() {
        components = k + 1;
        let given = mib.get(k).ok_or(Code::ENOENT)?;
        if pattern != "<i>" && *given != names.first_with(node.name, k + 1) {
            return Err(Code::ENOENT);
        }
    }
    if components == mib.len() { Ok(node) } else { Err(Code::ENOENT) }
}

/// `mallctl`.
///
/// # Safety
/// The buffers are as `mallctl` describes them.
pub unsafe fn by_name(
    heap: &'static dyn HeapControl,
    name: &[u8],
    old: *mut u8,
    old_length: *mut usize,
    new: *const u8,
    new_length: usize,
) -> Result<(), Code> {
    let mut mib = [0; DEPTH_MAX];
    let depth = find(Names::of(heap), name, &mut mib)?;
    // SAFETY: the caller's buffers.
    unsafe { by_mib(heap, &mib[..depth], old, old_length, new, new_length) }
}

/// `mallctlbymib`.
///
/// # Safety
/// As [`by_name`].
pub unsafe fn by_mib(
    heap: &'static dyn HeapControl,
    mib: &[usize],
    old: *mut u8,
    old_length: *mut usize,
    new: *const u8,
    new_length: usize,
) -> Result<(), Code> {
    let node = at(Names::of(heap), mib)?;
    // SAFETY: the caller's buffers.
    let mut call = unsafe { Call::new(heap, mib, old, old_length, new, new_length) };
    (node.handler)(&mut call)
}

/// `mallctlnametomib`: fills `mib` and returns how many components it has now.
pub fn name_to_mib(heap: &'static dyn HeapControl, name: &[u8], mib: &mut [usize]) -> Result<usize, Code> {
    find(Names::of(heap), name, mib)
}
