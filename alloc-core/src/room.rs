//! Room for a request that the system has refused: what arenas keep of address space.

use crate::heap::{Heap, Request};
use crate::observer::Observer;
use crate::request::Obtained;
use crate::size;
use crate::thread::Thread;

/// What a request takes besides its bytes, at most: descriptors, and the page map's leaves.
const BESIDES: usize = 8 << 20;

impl<O: Observer> Heap<O> {
    /// [`Heap::obtain`]; where there is no memory, once more when arenas have made room.
    #[inline(always)]
    pub(crate) fn obtain_with_room(&'static self, thread: *mut Thread, size: usize, request: &Request) -> Obtained {
        let found = self.obtain(thread, size, request);
        if !found.block.is_null() || !self.make_room(size, request.align) {
            return found;
        }
        self.obtain(thread, size, request)
    }

    /// Has arenas give up as much as they don't use, first of what has no pages. Where address space is limited (`ulimit -v`),
    /// what one arena keeps is what another one lacks, or the same one for a longer block. Whether there was any.
    #[cold]
    #[inline(never)]
    fn make_room(&'static self, size: usize, align: usize) -> bool {
        let wanted = size::usable_size_for(size, align);
        // A thread in the middle of a hook may hold any lock of the arena whose hook that is.
        let arenas = || self.core.arenas.iter().filter(|arena| arena.pages.may_give_up_unused());
        let kept: usize = arenas().map(|arena| arena.pages.address_space()).sum();
        // Much more than all of them have won't be had by that.
        if wanted == 0 || wanted / 2 > kept {
            return false;
        }
        let enough = wanted + BESIDES;
        let mut made = 0;
        for backed in [false, true] {
            for arena in arenas() {
                if made < enough {
                    made += arena.pages.give_up_unused(&self.core.shared, enough - made, backed);
                }
            }
        }
        made > 0
    }
}
