//! From an address to what it belongs to: a flat array of class bytes for the fast path, a tree of descriptors for the
//! rest.
//!
//! The flat array has one byte for each OS page of the 47-bit address space, 32 GiB of which almost nothing is ever
//! touched. A byte of 1 to [`crate::size::NBINS`] is the class of the slab in that page, and one above
//! [`crate::size::NCLASSES`] the second place of a class, of a slab in an arena with an odd number; with [`FLAG`] set, a live
//! sample may begin in that page. A large block has its byte at its first page ([`large_byte`]), always with the flag, so
//! that its frees take a path that clears the byte while the block is in a thread's cache: a second free finds that. 0 is
//! everything else: no block starts there that the fast path knows.
//! Only the parts of it for memory of the heap can be written; the rest reads as zero. So a program that has all its memory
//! locked (`mlockall`) gets page tables for it rather than pages: 64 MiB, if it isn't narrowed before.
//! Where address space is limited (`ulimit -v`), or the reservation fails, the array is two zero bytes and the shift is 63:
//! every lookup finds 0, and the slow path asks the tree. Where the limit comes later, the array loses what is far from
//! memory of the heap: see [`PageMap::narrow_to`].
//!
//! The tree has a root of 2^17 entries for 1 GiB each, and leaves with a descriptor pointer for each page.

use crate::extent::Extent;
use crate::lock::{Mutex, Rank};
use crate::sync::atomic::{AtomicI8, AtomicPtr, AtomicUsize, Ordering};
use crate::sys::{self, Access, Advice, LG_PAGE};
use core::ops::Range;
use core::ptr::null_mut;

/// Bits of an address in user space.
const ADDRESS_BITS: u32 = 47;
/// Bits of address that a leaf of the tree spans.
const LG_LEAF_SPAN: u32 = 30;
const ROOT_LEN: usize = 1 << (ADDRESS_BITS - LG_LEAF_SPAN);
const LEAF_LEN: usize = 1 << (LG_LEAF_SPAN - LG_PAGE);
const FLAT_BYTES: usize = 1 << (ADDRESS_BITS - LG_PAGE);

/// Leaves beside one in use that keep their class bytes when the array is narrowed, 4 MiB, and as many as the limit spans.
const KEPT_BESIDE: usize = 16;

/// Set in a class byte while a live sample may begin in the page, and in those of large blocks; makes the byte negative.
pub const FLAG: u8 = 0x80;

/// The byte of a large block in use, by its class (0: none) and whether it has a live sample.
#[inline]
pub fn large_byte(class: usize, sampled: bool) -> u8 {
    match (sampled, class) {
        // Whoever frees it must look at the descriptor.
        (true, _) => FLAG,
        (false, 0) => 0,
        (false, class) => class as u8 | FLAG,
    }
}

/// The shift that sends every address to one of the two bytes of an absent array.
pub const NO_MAP_SHIFT: usize = 63;

/// The bytes that stand in for an absent array: one for addresses that programs can have, one for those of the kernel.
pub static NO_MAP: [AtomicI8; 2] = [const { AtomicI8::new(0) }; 2];

/// The first of them.
pub const fn no_map() -> *const AtomicI8 {
    (&raw const NO_MAP).cast()
}

type Leaf = [AtomicPtr<Extent>; LEAF_LEN];

/// The root of the tree.
struct Root {
    leaves: [AtomicPtr<Leaf>; ROOT_LEN],
    /// A bit for each leaf whose class bytes were given up when the array was narrowed.
    given_up: [AtomicUsize; ROOT_LEN / WORD],
}

/// Bits of a word of [`Root::given_up`].
const WORD: usize = usize::BITS as usize;

impl Root {
    fn is_given_up(&self, index: usize) -> bool {
        self.given_up[index / WORD].load(Ordering::Relaxed) & 1 << (index % WORD) != 0
    }

    fn set_given_up(&self, index: usize, is_given_up: bool) {
        let (word, bit) = (&self.given_up[index / WORD], 1 << (index % WORD));
        // Who holds the lock is the only one that writes.
        let others = word.load(Ordering::Relaxed) & !bit;
        word.store(if is_given_up { others | bit } else { others }, Ordering::Relaxed);
    }

    /// The runs of those leaves among some whose class bytes were not given up.
    fn runs(&self, indexes: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let Range { start: mut next, end } = indexes;
        core::iter::from_fn(move || {
            let start = (next..end).find(|&i| !self.is_given_up(i))?;
            next = (start..end).find(|&i| self.is_given_up(i)).unwrap_or(end);
            Some(start..next)
        })
    }
}

/// The page map of a heap.
pub struct PageMap {
    flat: AtomicPtr<AtomicI8>,
    shift: AtomicUsize,
    /// Mapped at boot, or when memory is registered first if that failed: a megabyte of zeros in the library's file would
    /// cost more than it does here.
    root: AtomicPtr<Root>,
    leaves: AtomicUsize,
    /// Held while a leaf is made, and while the flat array is narrowed: how many leaves beside those in use have kept their
    /// class bytes.
    beside: Mutex<usize>,
}

/// Looks descriptors up, as [`PageMap::extent`] does.
pub(crate) struct Extents<'a> {
    root: &'a [AtomicPtr<Leaf>],
}

impl Extents<'_> {
    /// The place of the descriptor for the page that holds `address`; `None` where there is no leaf for it.
    #[inline]
    fn place(&self, address: usize) -> Option<&AtomicPtr<Extent>> {
        // Acquire: pairs with the Release in `make_leaf`.
        let leaf = self.root.get(address >> LG_LEAF_SPAN)?.load(Ordering::Acquire);
        // SAFETY: leaves are never unmapped.
        unsafe { leaf.as_ref() }.map(|leaf| &leaf[(address >> LG_PAGE) & (LEAF_LEN - 1)])
    }

    /// The descriptor registered for the page that holds `address`; null when there is none.
    #[inline]
    pub(crate) fn of(&self, address: usize) -> *mut Extent {
        // Relaxed: see `set_class`; a racing neighbour lookup checks the descriptor under the lock that protects it.
        self.place(address).map_or(null_mut(), |place| place.load(Ordering::Relaxed))
    }
}

impl core::fmt::Debug for PageMap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PageMap").field("shift", &self.shift).field("leaves", &self.leaves).finish_non_exhaustive()
    }
}

impl PageMap {
    /// A map that knows no page; [`PageMap::boot`] makes it usable.
    pub const fn new() -> Self {
        PageMap {
            flat: AtomicPtr::new(no_map().cast_mut()),
            shift: AtomicUsize::new(NO_MAP_SHIFT),
            root: AtomicPtr::new(null_mut()),
            leaves: AtomicUsize::new(0),
            beside: Mutex::new(Rank::Base, ROOT_LEN),
        }
    }

    /// Maps the tree's root, and reserves the flat array if that is possible, and nothing counts address space. Called once,
    /// before there are other threads in the heap. Without a root no page can be registered; then [`PageMap::prepare`] tries
    /// again.
    pub fn boot(&self) {
        self.map_root();
        // What the array takes of a limit, the program would lack.
        if sys::address_space_limit().is_some() {
            return;
        }
        // Where the program locks what it maps, this would be backed at once if it could be read from the start. It isn't made
        // readable afterwards everywhere: valgrind's memcheck would go through all of it, byte by byte.
        let is_locked = sys::is_locked(self.root.load(Ordering::Relaxed).addr());
        let reserved = if is_locked { sys::reserve(FLAT_BYTES) } else { sys::map_to_read(FLAT_BYTES) };
        if let Ok(address) = reserved {
            // SAFETY: the mapping was made just now; the advice doesn't change its contents.
            let _ = unsafe { sys::advise(address, FLAT_BYTES, Advice::DontDump) };
            // SAFETY: as above. Huge pages here would turn each touched page into 2 MiB.
            let _ = unsafe { sys::advise(address, FLAT_BYTES, Advice::NoHugePage) };
            // SAFETY: as above; nobody knows of it.
            if is_locked && unsafe { sys::protect(address, FLAT_BYTES, Access::Read) }.is_err() {
                // SAFETY: as above.
                let _ = unsafe { sys::unmap(address, FLAT_BYTES) };
                return;
            }
            self.flat.store(core::ptr::with_exposed_provenance_mut(address), Ordering::Relaxed);
            self.shift.store(LG_PAGE as usize, Ordering::Relaxed);
        }
    }

    #[cold]
    fn map_root(&self) {
        let Ok(address) = sys::map(core::mem::size_of::<Root>(), true) else { return };
        let root: *mut Root = core::ptr::with_exposed_provenance_mut(address);
        // Release: the root reads as zeros, whoever finds it.
        if self.root.compare_exchange(null_mut(), root, Ordering::Release, Ordering::Relaxed).is_err() {
            // SAFETY: mapped just now, and nobody has seen it: another thread was faster.
            let _ = unsafe { sys::unmap(address, core::mem::size_of::<Root>()) };
        }
    }

    /// The flat array and its shift, for a thread's own copy.
    pub fn flat(&self) -> (*const AtomicI8, usize) {
        (self.flat.load(Ordering::Relaxed), self.shift.load(Ordering::Relaxed))
    }

    /// The first address and the end of each part of the array, of the root and of each leaf.
    pub fn ranges(&self) -> impl Iterator<Item = (usize, usize)> {
        let root = self.root().map(|root| ((&raw const *root).addr(), core::mem::size_of::<Root>()));
        // From the end on, near which mappings lie, and no further than there are leaves: each page of the root that is read
        // becomes the kernel's page of zeros.
        let leaves = self.extents().root.iter().rev().map(|leaf| leaf.load(Ordering::Relaxed).addr());
        let leaves = leaves.filter(|&leaf| leaf != 0).map(|leaf| (leaf, core::mem::size_of::<Leaf>()));
        let leaves = leaves.take(self.leaves.load(Ordering::Relaxed));
        self.parts().chain(root.into_iter().chain(leaves).map(|(start, bytes)| (start, start + bytes)))
    }

    /// The first address and the end of each part of the array. What was given up may be the program's by now.
    fn parts(&self) -> impl Iterator<Item = (usize, usize)> {
        let root = self.root().filter(|_| self.has_bytes());
        let runs = root.into_iter().flat_map(|root| root.runs(0..ROOT_LEN));
        runs.map(|run| (self.bytes_of(run.start), self.bytes_of(run.end)))
    }

    /// Bytes of leaves of the tree (address space; what is touched is less).
    pub fn tree_bytes(&self) -> usize {
        self.leaves.load(Ordering::Relaxed) * core::mem::size_of::<Leaf>()
    }

    /// Whether the flat array exists.
    pub fn has_bytes(&self) -> bool {
        self.shift.load(Ordering::Relaxed) != NO_MAP_SHIFT
    }

    #[inline]
    fn flat_byte(&self, address: usize) -> Option<&AtomicI8> {
        if !self.has_bytes() || address >> ADDRESS_BITS != 0 {
            return None;
        }
        // SAFETY: the array has a byte for each page below 2^47, and is never unmapped.
        Some(unsafe { &*self.flat.load(Ordering::Relaxed).add(address >> LG_PAGE) })
    }

    /// Writes the class byte of `pages` pages from `address` on.
    pub fn set_class(&self, address: usize, pages: usize, byte: u8) {
        if let Some(first) = self.flat_byte(address) {
            for i in 0..pages {
                // SAFETY: the range is mapped memory of the heap, below 2^47, so the array covers it. Relaxed: a
                // thread that frees a block learned its address from the thread that got it, with its own order.
                unsafe { (*(&raw const *first).add(i)).store(byte.cast_signed(), Ordering::Relaxed) };
            }
        }
    }

    /// The class byte of the page that holds `address`, 0 where there is no array.
    #[inline]
    pub fn class_byte(&self, address: usize) -> u8 {
        self.flat_byte(address).map_or(0, |byte| byte.load(Ordering::Relaxed).cast_unsigned())
    }

    #[inline]
    fn root(&self) -> Option<&Root> {
        // Relaxed: whoever has a block of this heap, or extends it, has seen the boot; others find null.
        // SAFETY: the root reads as zeros, null pointers, and is never unmapped.
        unsafe { self.root.load(Ordering::Relaxed).as_ref() }
    }

    /// The descriptor registered for the page that holds `address`; null when there is none. Interior pages of extents
    /// that aren't slabs are not registered.
    #[inline]
    pub fn extent(&self, address: usize) -> *mut Extent {
        self.extents().of(address)
    }

    /// The tree, for many lookups one after the other.
    #[inline]
    pub(crate) fn extents(&self) -> Extents<'_> {
        Extents { root: self.root().map_or(&[], |root| &root.leaves) }
    }

    /// The class bytes of the pages of leaf `index`: where they are, or would be.
    fn bytes_of(&self, index: usize) -> usize {
        self.flat.load(Ordering::Relaxed).addr() + index * LEAF_LEN
    }

    /// Lets the part of the flat array be written that is for leaf `index` of the tree. The caller holds the lock.
    fn open_bytes(&self, root: &Root, index: usize) -> bool {
        if !self.has_bytes() {
            return true;
        }
        if root.is_given_up(index) {
            let is_there = sys::map_unused(self.bytes_of(index), LEAF_LEN).is_ok();
            root.set_given_up(index, !is_there);
            return is_there;
        }
        // SAFETY: the array has a byte for each page of this leaf, and what is in it stays.
        unsafe { sys::protect(self.bytes_of(index), LEAF_LEN, Access::ReadWrite) }.is_ok()
    }

    /// Makes sure that the tree has leaves for a new mapping, and that its class bytes can be written. `false`: no memory.
    #[must_use]
    pub fn prepare(&self, address: usize, bytes: usize) -> bool {
        if self.root.load(Ordering::Relaxed).is_null() {
            self.map_root();
        }
        let Some(root) = self.root() else { return false };
        (address >> LG_LEAF_SPAN..=(address + bytes - 1) >> LG_LEAF_SPAN).all(|i| self.make_leaf(root, i))
    }

    /// Makes leaf `index`, unless it is there. `false`: no memory, or no such leaf.
    fn make_leaf(&self, root: &Root, index: usize) -> bool {
        let Some(place) = root.leaves.get(index) else { return false };
        if !place.load(Ordering::Acquire).is_null() {
            return true;
        }
        let _made_by_one = self.beside.lock();
        // Relaxed: another thread may have made it, under the lock.
        if !place.load(Ordering::Relaxed).is_null() {
            return true;
        }
        if !self.open_bytes(root, index) {
            return false;
        }
        let Ok(leaf) = sys::map(core::mem::size_of::<Leaf>(), true) else { return false };
        // Release: pairs with the Acquire in `Extents::place`; the leaf reads as zero, null pointers, and its bytes can be
        // written.
        place.store(core::ptr::with_exposed_provenance_mut(leaf), Ordering::Release);
        self.leaves.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Where the program has set itself a limit of address space: [`PageMap::narrow_to`] that.
    #[cold]
    pub fn narrow(&self) -> bool {
        self.has_bytes() && sys::address_space_limit().is_some_and(|limit| self.narrow_to(limit))
    }

    /// For a program that isn't to have more than `limit` bytes of memory: gives up what of the flat array is for addresses far
    /// from the heap's own. `false`: nothing.
    ///
    /// What is near is kept because new mappings will lie there: among other places where the array was, be there memory of the
    /// heap yet or not. What they take of that is not to be where their own class bytes belong, or those of the next ones: they
    /// could not be the heap's. To free an address that is far, by mistake, is a fault then.
    #[cold]
    pub fn narrow_to(&self, limit: usize) -> bool {
        let Some(root) = self.root().filter(|_| self.has_bytes()) else { return false };
        // Somebody may be in the middle of it, whom a signal's handler interrupts.
        let Some(mut before) = self.beside.try_lock() else { return false };
        let beside = (limit >> LG_LEAF_SPAN).saturating_add(KEPT_BESIDE);
        if beside >= *before {
            return false;
        }
        *before = beside;
        let own = self.bytes_of(0) >> LG_LEAF_SPAN..=self.bytes_of(ROOT_LEN) >> LG_LEAF_SPAN;
        let used = (0..ROOT_LEN).filter(|i| own.contains(i) || !root.leaves[*i].load(Ordering::Relaxed).is_null());
        let kept = used.map(|i| i.saturating_sub(beside)..i + beside + 1).chain(core::iter::once(ROOT_LEN..ROOT_LEN));
        // The first is asked for null.
        let (mut next, mut any) = (1, false);
        for kept in kept {
            any |= self.give_up(root, next..kept.start);
            next = next.max(kept.end);
        }
        any
    }

    /// Gives up the class bytes for those leaves. `false`: there are none any more.
    fn give_up(&self, root: &Root, indexes: Range<usize>) -> bool {
        let mut any = false;
        for run in root.runs(indexes) {
            // Before they are: in the child of a fork of just then, what is unmapped must not be taken for the array's.
            run.clone().for_each(|i| root.set_given_up(i, true));
            // SAFETY: a part of the array in which no byte was ever written. It is asked for addresses there only, and no block
            // has one.
            if unsafe { sys::unmap(self.bytes_of(run.start), run.len() * LEAF_LEN) }.is_ok() {
                any = true;
            } else {
                run.for_each(|i| root.set_given_up(i, false));
            }
        }
        any
    }

    /// In the child of a fork.
    pub(crate) fn after_fork(&self) {
        self.beside.after_fork(|_| {});
    }

    /// Registers `extent` (null: nothing) for the page at `address`, which [`PageMap::prepare`] has seen.
    #[inline]
    pub fn set_extent(&self, address: usize, extent: *mut Extent) {
        let extents = self.extents();
        let place = extents.place(address);
        debug_assert!(place.is_some());
        if let Some(place) = place {
            place.store(extent, Ordering::Relaxed);
        }
    }
}

impl Default for PageMap {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_up_is_not_the_maps_any_more() {
        static MAP: PageMap = PageMap::new();
        MAP.boot();
        // Far from the array, and from all that is mapped.
        let leaf = 50_000;
        assert!(MAP.prepare(leaf << LG_LEAF_SPAN, 1 << LG_PAGE));
        let holds = |index: usize| MAP.ranges().any(|(start, end)| (start..end).contains(&MAP.bytes_of(index)));
        let far = leaf - KEPT_BESIDE - 2;
        assert!(!MAP.has_bytes() || holds(far));
        assert_eq!(MAP.narrow_to(0), MAP.has_bytes());
        if MAP.has_bytes() {
            assert!(holds(0) && holds(leaf) && holds(leaf + KEPT_BESIDE) && !holds(far));
            // New mappings come to where the array was.
            let own = MAP.bytes_of(0) >> LG_LEAF_SPAN;
            assert!((0..KEPT_BESIDE).all(|i| holds(own - i) && holds(own + i)));
            // Where something else has come there, the map has nothing to do with it.
            let start = MAP.bytes_of(far);
            assert!(sys::map_unused(start, LEAF_LEN).is_ok());
            assert!(!holds(far) && !MAP.prepare(far << LG_LEAF_SPAN, 1 << LG_PAGE));
            // SAFETY: mapped above.
            assert!(unsafe { sys::unmap(start, LEAF_LEN) }.is_ok());
            assert!(MAP.prepare(far << LG_LEAF_SPAN, 1 << LG_PAGE) && holds(far));
        }
    }
}
