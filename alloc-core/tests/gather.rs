//! Pages that lie behind no block are moved to where the next large one begins; what blocks hold stays what it is.

mod common;

use alloc_core::{ArenaSelection, Heap, Request, TcacheChoice};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

fn own_arena() -> Request {
    let arena = HEAP.create_arena(std::ptr::null_mut()).unwrap();
    Request { arena: Some(arena), tcache: TcacheChoice::None, ..Request::PLAIN }
}

fn word(seed: usize, page: usize) -> usize {
    (seed << 32 | page).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// A block each page of which is told apart.
#[derive(Debug)]
struct Block {
    start: *mut u8,
    bytes: usize,
    seed: usize,
}

impl Block {
    fn new(bytes: usize, seed: usize, request: Request) -> Self {
        let start = HEAP.allocate_with(bytes, request);
        assert!(!start.is_null());
        let block = Block { start, bytes, seed };
        block.fill(0);
        block
    }

    fn place(&self, page: usize) -> *mut usize {
        // SAFETY: a page of the block.
        unsafe { self.start.add(page * PAGE).cast() }
    }

    /// Writes all pages from number `first` on.
    fn fill(&self, first: usize) {
        for page in first..self.bytes / PAGE {
            // SAFETY: inside of the block, aligned as pages are.
            unsafe { self.place(page).write(word(self.seed, page)) };
        }
    }

    fn check(&self) {
        for page in 0..self.bytes / PAGE {
            // SAFETY: as above.
            assert_eq!(unsafe { self.place(page).read() }, word(self.seed, page), "page {page} of {}", self.bytes);
        }
    }

    fn free(self, request: Request) {
        self.check();
        // SAFETY: the block is ours.
        unsafe { HEAP.deallocate_with(self.start, request) };
    }
}

/// Page faults of this thread so far.
fn faults() -> i64 {
    // SAFETY: plain data, which the kernel writes.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: room for the answer.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
    usage.ru_minflt
}

#[test]
fn a_large_block_gets_the_pages_of_short_extents() {
    let request = own_arena();
    assert!(HEAP.set_arena_decay_ms(request.arena.unwrap(), alloc_core::decay::Tier::Dirty, -1));
    // Each second one goes: ten holes of 3 MiB.
    let mut blocks: Vec<_> = (0..20).map(|i| Block::new(3 * MIB, i, request)).collect();
    let mut kept = Vec::new();
    for (i, block) in blocks.drain(..).enumerate() {
        if i % 2 == 0 { block.free(request) } else { kept.push(block) }
    }
    let before = faults();
    let large = Block::new(20 * MIB, 99, request);
    let touched = faults() - before;
    // 5120 without. Chunks of a grid are moved, with what lies around them left.
    assert!(touched < 2000, "{touched} pages were touched for the first time");
    large.check();
    kept.iter().for_each(Block::check);
    // What was left without pages reads as zero, and can be used again.
    let zero = HEAP.allocate_with(3 * MIB, Request { zero: true, ..request });
    // SAFETY: a block of that size.
    assert!(unsafe { std::slice::from_raw_parts(zero, 3 * MIB) }.iter().all(|&byte| byte == 0));
    let more: Vec<_> = (0..8).map(|i| Block::new(3 * MIB, 200 + i, request)).collect();
    large.check();
    // SAFETY: the block is ours.
    unsafe { HEAP.deallocate_with(zero, request) };
    for block in more.into_iter().chain(kept).chain([large]) {
        block.free(request);
    }
}

#[test]
fn a_gap_between_unused_pages_is_used_with_both() {
    let request = own_arena();
    let arena = request.arena.unwrap();
    assert!(HEAP.set_arena_decay_ms(arena, alloc_core::decay::Tier::Dirty, -1));
    Block::new(16 * MIB, 0, request).free(request);
    let [first, gap, last, wall] = [4, 2, 4, 1].map(|mib| Block::new(mib * MIB, mib, request));
    let (start, whole) = (first.start, [&first, &gap, &last].map(|block| block.bytes).iter().sum());
    assert_eq!(start.addr() + whole, wall.start.addr(), "the blocks lie side by side");
    // Without pages in between, and with unused ones on both sides.
    gap.free(request);
    HEAP.arena_purge(ArenaSelection::One(arena));
    first.free(request);
    last.free(request);
    let before = faults();
    let block = Block::new(whole, 5, request);
    let touched = faults() - before;
    assert_eq!(block.start, start);
    assert!(touched < 600, "{touched} pages were touched for the first time; the gap has 512");
    // From the other side, and with a part of the last.
    block.free(request);
    let [first, gap, last] = [2, 2, 5].map(|mib| Block::new(mib * MIB, mib, request));
    gap.free(request);
    HEAP.arena_purge(ArenaSelection::One(arena));
    first.free(request);
    last.free(request);
    let block = Block::new(8 * MIB, 6, request);
    assert!(
        block.start >= start && block.start.addr() + block.bytes <= wall.start.addr(),
        "{block:?} from {start:?} on"
    );
    block.free(request);
    wall.free(request);
}

#[test]
fn a_block_that_moves_takes_its_pages_along() {
    let request = own_arena();
    let mut block = Block::new(8 * MIB, 1, request);
    for (step, bytes) in [13 * MIB, 13 * MIB + 5 * PAGE, 40 * MIB, 41 * MIB].into_iter().enumerate() {
        // Nothing is free behind it.
        let wall = Block::new(2 * MIB, 50 + step, request);
        let before = faults();
        // SAFETY: the block is ours.
        let start = unsafe { HEAP.reallocate_with(block.start, bytes, request) };
        let touched = faults() - before;
        // At most what lies around the chunks is copied.
        assert!(touched < 400, "step {step}: {touched} pages were touched for the first time");
        let pages = block.bytes / PAGE;
        block = Block { start, bytes, seed: 1 };
        block.fill(pages);
        block.check();
        wall.free(request);
    }
    // Zeros, where they are asked for, whatever came there.
    let pages = block.bytes / PAGE;
    // SAFETY: the block is ours.
    let start = unsafe { HEAP.reallocate_with(block.start, 60 * MIB, Request { zero: true, ..request }) };
    // SAFETY: what has come on to the block.
    let more = unsafe { std::slice::from_raw_parts(start.add(pages * PAGE), 60 * MIB - pages * PAGE) };
    assert!(more.iter().all(|&byte| byte == 0));
    Block { start, ..block }.free(request);
}

#[test]
fn blocks_grow_beside_ones_that_widen_the_grid() {
    let request = own_arena();
    // Nothing of it is touched.
    let vast = HEAP.allocate_with(48 << 30, request);
    assert!(!vast.is_null(), "no address space");
    let mut block = Block::new(9 * MIB, 3, request);
    let wall = Block::new(MIB, 4, request);
    for bytes in [15 * MIB, 70 * MIB, 300 * MIB] {
        // SAFETY: the block is ours.
        let start = unsafe { HEAP.reallocate_with(block.start, bytes, request) };
        let pages = block.bytes / PAGE;
        block = Block { start, bytes, seed: 3 };
        block.fill(pages);
        block.check();
    }
    wall.free(request);
    block.free(request);
    // SAFETY: the block is ours.
    unsafe { HEAP.deallocate_with(vast, request) };
}

#[test]
fn many_blocks_that_come_and_go() {
    let request = own_arena();
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut held: Vec<Block> = Vec::new();
    for step in 0..600 {
        match draw(4) {
            0 | 1 if held.len() < 12 => {
                let bytes = (1 + draw(3000)) * PAGE;
                held.push(Block::new(bytes, step, request));
            }
            2 if !held.is_empty() => {
                let at = draw(held.len());
                let mut block = held.swap_remove(at);
                let pages = block.bytes / PAGE;
                let bytes = block.bytes + (1 + draw(1000)) * PAGE;
                // SAFETY: the block is ours.
                block.start = unsafe { HEAP.reallocate_with(block.start, bytes, request) };
                block.bytes = bytes;
                block.fill(pages);
                block.check();
                held.push(block);
            }
            _ if !held.is_empty() => {
                let at = draw(held.len());
                held.swap_remove(at).free(request);
            }
            _ => {}
        }
    }
    let mappings = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    assert!(mappings < 2048, "{mappings} mappings");
    for block in held {
        block.free(request);
    }
}

/// Whether all mappings that lie in one of these blocks are locked.
fn are_locked(blocks: &[(usize, usize)]) -> bool {
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    smaps.lines().all(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        if let Some((start, end)) = range {
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            let (start, end) = (number(start), number(end));
            inside = blocks.iter().any(|&(address, bytes)| address < end && start < address + bytes);
        }
        !inside || !line.starts_with("VmFlags:") || line.split(' ').any(|flag| flag == "lo")
    })
}

#[test]
fn locked_memory_stays_locked() {
    // SAFETY: nothing but this process's own memory.
    if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } != 0 {
        // Not everybody may have so much locked.
        // SAFETY: a plain question.
        assert_ne!(unsafe { libc::geteuid() }, 0);
        eprintln!("skipped: memory can't be locked");
        return;
    }
    let request = own_arena();
    assert!(HEAP.set_arena_decay_ms(request.arena.unwrap(), alloc_core::decay::Tier::Dirty, -1));
    let blocks: Vec<_> = (0..8).map(|i| Block::new(3 * MIB, i, request)).collect();
    let places: Vec<_> = blocks.iter().map(|block| (block.start.addr(), block.bytes)).collect();
    assert!(are_locked(&places));
    let mut kept = Vec::new();
    for (i, block) in blocks.into_iter().enumerate() {
        if i % 2 == 0 { block.free(request) } else { kept.push(block) }
    }
    // With pages of others, and by taking its own along, if memory weren't locked.
    let large = Block::new(20 * MIB, 99, request);
    // SAFETY: the block is ours.
    let start = unsafe { HEAP.reallocate_with(large.start, 40 * MIB, request) };
    let large = Block { start, ..large };
    kept.iter().chain([&large]).for_each(Block::check);
    assert!(are_locked(&places) && are_locked(&[(large.start.addr(), 40 * MIB)]));
    for block in kept.into_iter().chain([large]) {
        block.free(request);
    }
}
