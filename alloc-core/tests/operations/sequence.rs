//! Sequences of operations on a heap, against a model: what a fuzzer finds, and what a test draws, are both bytes that are
//! read as operations.
//!
//! Checked at each operation: no overlap, alignment, contents, zeros where they were asked for, what a resized block keeps,
//! usable sizes. Checked now and then: the page map, slab bitmaps and counts, and that statistics agree with both.

use std::collections::BTreeMap;

use alloc_core::extent::State;
use alloc_core::observer::Observer;
use alloc_core::size::{self, NBINS};
use alloc_core::stats::ArenaStats;
use alloc_core::{Heap, Request, TcacheChoice};

/// Where a block comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The thread's cache.
    Cache,
    /// The thread's arena.
    Arena,
    /// An arena of the program's own.
    Made,
}

/// One operation. `which` chooses among the blocks held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Allocate { size: usize, lg_align: u32, zero: bool, source: Source },
    Reallocate { which: u16, size: usize },
    ReallocateZeroed { which: u16, size: usize, lg_align: u32 },
    ResizeInPlace { which: u16, size: usize, extra: usize, zero: bool },
    Free { which: u16 },
    FreeSized { which: u16 },
    FlushCache,
    Purge,
    Decay,
    Trim,
    Reset,
}

/// Bytes that are read as operations.
#[derive(Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn word(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes([self.byte()?, self.byte()?]))
    }

    /// Most sizes are small, some are up to 4 MiB, and many lie at the border of a class.
    fn size(&mut self) -> Option<usize> {
        let (kind, word) = (self.byte()?, self.word()? as usize);
        Some(match kind {
            0..=169 => word % 2048,
            170..=229 => word,
            230..=234 => word << 6,
            _ => (size::class_size(word % NBINS) + (word >> 8) % 3).saturating_sub(1),
        })
    }
}

impl Op {
    /// The next operation; `None`: no bytes are left.
    pub fn read(bytes: &mut Bytes<'_>) -> Option<Op> {
        let kind = bytes.byte()?;
        Some(match kind {
            0..=109 => {
                let more = bytes.byte()?;
                let source = [Source::Cache, Source::Cache, Source::Arena, Source::Made][(more & 3) as usize];
                let lg_align = if more & 0x30 == 0 { u32::from(more >> 6) * 5 } else { 0 };
                Op::Allocate { size: bytes.size()?, lg_align, zero: more & 12 == 0, source }
            }
            110..=129 => Op::Reallocate { which: bytes.word()?, size: bytes.size()?.max(1) },
            130..=139 => {
                let lg_align = u32::from(bytes.byte()? % 14);
                Op::ReallocateZeroed { which: bytes.word()?, size: bytes.size()?.max(1), lg_align }
            }
            140..=149 => {
                let zero = bytes.byte()? & 1 != 0;
                Op::ResizeInPlace { which: bytes.word()?, size: bytes.size()?.max(1), extra: bytes.size()?, zero }
            }
            150..=219 => Op::Free { which: bytes.word()? },
            220..=249 => Op::FreeSized { which: bytes.word()? },
            250 => Op::FlushCache,
            251 => Op::Decay,
            252..=253 => Op::Purge,
            254 => Op::Trim,
            255 => match bytes.byte()? {
                0..=15 => Op::Reset,
                _ => Op::FlushCache,
            },
        })
    }
}

/// A block as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Held {
    size: usize,
    usable: usize,
    align: usize,
    seed: u8,
    made: bool,
}

/// Whether byte `i` of a block is written and read: all at its beginning and end, one of each 512 between.
fn touched(size: usize) -> impl Iterator<Item = usize> {
    let (head, tail) = (size.min(256), size.saturating_sub(64));
    (0..head).chain((head..tail.max(head)).step_by(512)).chain(tail.max(head)..size)
}

fn value(seed: u8, i: usize) -> u8 {
    seed.wrapping_add((i >> 4) as u8).wrapping_mul(167) | 1
}

/// The heap's blocks, as they must be.
pub struct Model<O: Observer> {
    heap: &'static Heap<O>,
    arena: u32,
    blocks: BTreeMap<usize, Held>,
    count: u64,
}

impl<O: Observer> Model<O> {
    /// A model of a heap that nobody else uses.
    pub fn new(heap: &'static Heap<O>) -> Self {
        let arena = heap.create_arena(std::ptr::null_mut()).expect("there is memory for an arena");
        Model { heap, arena, blocks: BTreeMap::new(), count: 0 }
    }

    fn add(&mut self, address: usize, held: Held) {
        assert!(address.is_multiple_of(held.align), "{address:#x}: {held:?}");
        let below = self.blocks.range(..=address).next_back();
        assert!(below.is_none_or(|(at, below)| at + below.usable <= address), "{address:#x}: {held:?} over {below:?}");
        let above = self.blocks.range(address..).next();
        assert!(above.is_none_or(|(at, _)| address + held.usable <= *at), "{address:#x}: {held:?} over {above:?}");
        // SAFETY: the block is the model's.
        assert_eq!(unsafe { self.heap.usable_size(address as *const u8) }, held.usable, "{address:#x}: {held:?}");
        for i in touched(held.size) {
            // SAFETY: as above.
            unsafe { (address as *mut u8).add(i).write(value(held.seed, i)) };
        }
        self.blocks.insert(address, held);
    }

    /// Takes a block out of the model, whose first `kept` bytes must be as they were written.
    fn take(&mut self, which: u16) -> Option<(usize, Held)> {
        let from = self.blocks.keys().next()?;
        let to = self.blocks.keys().next_back()?;
        let wanted = from + ((to - from) as u128 * u128::from(which) / 65536) as usize;
        let address = *self.blocks.range(wanted..).next()?.0;
        let held = self.blocks.remove(&address)?;
        Self::check(address, &held, held.size);
        Some((address, held))
    }

    /// Fails unless the first `kept` bytes of a block are those of `held`.
    fn check(address: usize, held: &Held, kept: usize) {
        for i in touched(held.size).filter(|&i| i < kept) {
            // SAFETY: the caller's block has `kept` bytes.
            let found = unsafe { (address as *const u8).add(i).read() };
            assert_eq!(found, value(held.seed, i), "byte {i} of {address:#x}: {held:?}");
        }
    }

    fn check_zeros(address: usize, from: usize, to: usize) {
        // SAFETY: the caller's block has `to` bytes.
        let bytes = unsafe { std::slice::from_raw_parts(address as *const u8, to.max(from)) };
        assert!(bytes[from..].iter().all(|&byte| byte == 0), "{address:#x} is not zero from {from} to {to}");
    }

    fn usable(size: usize, align: usize) -> usize {
        size::usable_size_for(size.max(1), align)
    }

    /// Does one operation, and checks what it did.
    pub fn run(&mut self, op: Op) {
        self.count += 1;
        let seed = self.count as u8;
        match op {
            Op::Allocate { size, lg_align, zero, source } => {
                let align = 1usize << lg_align;
                let made = source == Source::Made;
                let tcache = if source == Source::Cache { TcacheChoice::Automatic } else { TcacheChoice::None };
                let request = Request { align, zero, tcache, arena: made.then_some(self.arena) };
                let block = match (source, zero, lg_align) {
                    (Source::Cache, false, 0) => self.heap.allocate(size),
                    (Source::Cache, true, 0) => self.heap.allocate_zeroed(size),
                    _ => self.heap.allocate_with(size.max(1), request),
                };
                assert!(!block.is_null(), "{op:?}");
                let usable = Self::usable(size, align);
                if zero {
                    Self::check_zeros(block.addr(), 0, size);
                }
                // The cache may have one of the program's own arena, too.
                let is_made = self.is_made(block);
                assert!(is_made || !made, "{op:?}");
                self.add(block.addr(), Held { size, usable, align, seed, made: is_made });
            }
            Op::Reallocate { which, size } => {
                let Some((address, held)) = self.take(which) else { return };
                // SAFETY: the block was the model's.
                let block = unsafe { self.heap.reallocate(address as *mut u8, size) };
                Self::check(block.addr(), &held, size.min(held.size));
                let made = self.is_made(block);
                self.add(block.addr(), Held { size, usable: Self::usable(size, 1), align: 1, seed, made });
            }
            Op::ReallocateZeroed { which, size, lg_align } => {
                let Some((address, held)) = self.take(which) else { return };
                let align = 1usize << lg_align;
                let request = Request { align, zero: true, tcache: TcacheChoice::Automatic, arena: None };
                // SAFETY: as above.
                let block = unsafe { self.heap.reallocate_with(address as *mut u8, size, request) };
                Self::check(block.addr(), &held, size.min(held.size));
                let usable = Self::usable(size, align);
                Self::check_zeros(block.addr(), held.usable.min(usable), usable);
                let made = self.is_made(block);
                self.add(block.addr(), Held { size, usable, align, seed, made });
            }
            Op::ResizeInPlace { which, size, extra, zero } => {
                let Some((address, held)) = self.take(which) else { return };
                // SAFETY: as above.
                let usable = unsafe { self.heap.resize_in_place(address as *mut u8, size, extra, 1, zero) };
                assert!(usable <= held.usable.max(Self::usable(size + extra, 1)), "{op:?}: {usable}, {held:?}");
                let kept = held.size.min(usable);
                Self::check(address, &held, kept);
                if zero && usable > held.usable {
                    Self::check_zeros(address, held.usable, usable);
                }
                self.add(address, Held { size: usable, usable, align: 1, seed, ..held });
            }
            Op::Free { which } => {
                let Some((address, held)) = self.take(which) else { return };
                // A block of the program's own arena goes past the cache, so that the arena's counts stay exact.
                let tcache = if held.made { TcacheChoice::None } else { TcacheChoice::Automatic };
                // SAFETY: as above.
                unsafe { self.heap.deallocate_with(address as *mut u8, Request { tcache, ..Request::PLAIN }) };
            }
            Op::FreeSized { which } => {
                let Some((address, held)) = self.take(which) else { return };
                if held.made {
                    let request = Request { tcache: TcacheChoice::None, ..Request::PLAIN };
                    // SAFETY: as above.
                    unsafe { self.heap.deallocate_with(address as *mut u8, request) };
                } else {
                    // SAFETY: as above, and this is the size and alignment that was asked for.
                    unsafe { self.heap.deallocate_sized(address as *mut u8, held.size, held.align) };
                }
            }
            Op::FlushCache => self.heap.thread_tcache_flush(),
            Op::Purge => self.heap.arena_purge(alloc_core::ArenaSelection::All),
            Op::Decay => self.heap.arena_decay(alloc_core::ArenaSelection::One(self.arena)),
            Op::Trim => {
                self.heap.malloc_trim();
            }
            Op::Reset => {
                // What the cache has of the arena's must not survive it.
                self.heap.thread_tcache_flush();
                self.blocks.retain(|_, held| !held.made);
                // SAFETY: the model has forgotten the arena's blocks, and no cache has any.
                unsafe { self.heap.reset_arena(self.arena) }.expect("it is a program's own arena");
            }
        }
    }

    /// Whether a block is of the program's own arena.
    fn is_made(&self, block: *const u8) -> bool {
        self.heap.block_arena(block) == Some(self.arena)
    }

    /// Checks all that the heap knows of itself.
    pub fn check_heap(&mut self) {
        self.heap.thread_tcache_flush();
        for &address in self.blocks.keys() {
            self.heap.check_block(address as *const u8);
        }
        let mut extents = Vec::new();
        self.heap.check_arena(self.arena, |extent| extents.push(extent));
        extents.sort_unstable_by_key(|extent| extent.address);
        for pair in extents.windows(2) {
            assert!(pair[0].address + pair[0].bytes <= pair[1].address, "{pair:?} overlap");
        }
        let mut stats = ArenaStats::NONE;
        assert!(self.heap.arena_stats(self.arena, &mut stats));
        let bytes =
            |state| -> usize { extents.iter().filter(|extent| extent.state == state).map(|extent| extent.bytes).sum() };
        assert_eq!(bytes(State::Active), stats.pactive * 4096);
        assert_eq!(bytes(State::Dirty), stats.pdirty * 4096);
        assert_eq!(bytes(State::Muzzy), stats.pmuzzy * 4096);
        assert_eq!(bytes(State::Retained), stats.retained);
        assert_eq!(bytes(State::Transit), 0);
        for class in 1..=NBINS {
            let counts = stats.bins[class - 1].counts;
            let slabs = || extents.iter().filter(|extent| extent.slab_class == Some(class));
            let out: usize = slabs().map(|slab| size::regions(class) - slab.free_regions).sum();
            let usable = size::class_bytes(class);
            let held = self.blocks.values().filter(|held| held.made && held.usable == usable).count();
            assert_eq!(
                (slabs().count(), out, held),
                (counts.curslabs, counts.curregs, counts.curregs),
                "class {class}"
            );
            let nonfull = slabs().filter(|slab| slab.free_regions > 0).count();
            // The current slab may have free regions, and isn't counted.
            assert!(
                (counts.nonfull_slabs..=counts.nonfull_slabs + 1).contains(&nonfull),
                "class {class}: {nonfull}, {counts:?}"
            );
        }
        let large: usize = self
            .blocks
            .values()
            .filter(|held| held.made && held.usable > size::class_size(NBINS - 1))
            .map(|held| held.usable)
            .sum();
        let large_extents =
            extents.iter().filter(|extent| extent.state == State::Active && extent.slab_class.is_none());
        assert_eq!(large, large_extents.map(|extent| extent.bytes).sum::<usize>());
        let stats = self.heap.stats();
        assert_eq!(stats.allocated, self.blocks.values().map(|held| held.usable).sum::<usize>(), "{stats:?}");
        assert!(stats.allocated <= stats.active && stats.active <= stats.mapped, "{stats:?}");
    }

    /// Frees all that is held.
    pub fn finish(mut self) {
        while let Some((&address, &held)) = self.blocks.iter().next() {
            Self::check(address, &held, held.size);
            self.blocks.remove(&address);
            let request = Request { tcache: TcacheChoice::None, ..Request::PLAIN };
            // SAFETY: the block was the model's.
            unsafe { self.heap.deallocate_with(address as *mut u8, request) };
        }
        self.check_heap();
        // SAFETY: the arena has no blocks.
        unsafe { self.heap.destroy_arena(self.arena) }.expect("it is a program's own arena");
    }
}
