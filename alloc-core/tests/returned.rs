//! Blocks that come back in the order of their addresses, or nearly.

mod common;

use std::collections::BTreeSet;

use alloc_core::{Heap, Request, TcacheChoice, size};
use common::Nobody;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

/// Regions of an arena's slabs that are in use.
fn in_use(arena: u32) -> usize {
    let mut regions = 0;
    HEAP.check_arena(arena, |extent| {
        regions += extent.slab_class.map_or(0, |class| size::regions(class) - extent.free_regions);
    });
    regions
}

#[test]
fn each_is_free_again() {
    const BLOCKS: usize = 5000;
    let arena = HEAP.create_arena(std::ptr::null_mut()).unwrap();
    let request = Request { tcache: TcacheChoice::None, arena: Some(arena), ..Request::PLAIN };
    for bytes in [16, 48, 128, 640, 1024] {
        for order in ["upwards", "downwards", "with gaps", "both ways", "in steps"] {
            let mut blocks: Vec<*mut u8> = (0..BLOCKS).map(|_| HEAP.allocate_with(bytes, request)).collect();
            assert_eq!(blocks.iter().collect::<BTreeSet<_>>().len(), BLOCKS);
            blocks.sort_unstable();
            match order {
                "downwards" => blocks.reverse(),
                // Each fifteenth later than the others.
                "with gaps" => {
                    let (late, soon) = (0..BLOCKS).partition::<Vec<_>, _>(|i| i % 15 == 0);
                    blocks = soon.into_iter().chain(late).map(|i| blocks[i]).collect();
                }
                "both ways" => blocks.chunks_mut(40).step_by(2).for_each(<[_]>::reverse),
                "in steps" => blocks = (0..3).flat_map(|first| blocks.iter().skip(first).step_by(3).copied()).collect(),
                _ => {}
            }
            // The bins are to have them.
            for &block in &blocks[..BLOCKS / 2] {
                // SAFETY: the block is ours.
                unsafe { HEAP.deallocate(block) };
            }
            HEAP.thread_tcache_flush();
            assert_eq!(in_use(arena), BLOCKS - BLOCKS / 2, "{bytes} bytes, {order}");
            for &block in &blocks[BLOCKS / 2..] {
                // SAFETY: the block is ours.
                unsafe { HEAP.deallocate(block) };
            }
            HEAP.thread_tcache_flush();
            assert_eq!(in_use(arena), 0, "{bytes} bytes, {order}");
        }
    }
}
