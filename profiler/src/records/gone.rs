//! What is kept of a shard beside its table.

use super::{Record, SHARD_LEN_MIN};
use crate::table::Array;

/// Records of blocks that lived at a moment and have been freed since.
#[derive(Debug)]
pub(super) struct Gone {
    list: Array<Record>,
    used: usize,
    /// The number of the moment.
    pub(super) of: u32,
}

impl Gone {
    pub(super) const NONE: Gone = Gone { list: Array::new(), used: 0, of: 0 };

    /// Keeps a record for a moment; those of another one are void. `false`: no memory.
    #[cold]
    #[inline(never)]
    pub(super) fn keep(&mut self, record: &Record, of: u32) -> bool {
        if self.of != of {
            (self.of, self.used) = (of, 0);
        }
        if self.used == self.list.as_slice().len() {
            let mut larger = Array::new();
            if !larger.reserve((self.used * 2).max(SHARD_LEN_MIN)) {
                return false;
            }
            larger.as_mut_slice()[..self.used].copy_from_slice(self.list.as_slice());
            self.list.release();
            self.list = larger;
        }
        self.list.as_mut_slice()[self.used] = *record;
        self.used += 1;
        true
    }

    /// Those of a moment.
    pub(super) fn of(&self, moment: u32) -> &[Record] {
        if self.of == moment { &self.list.as_slice()[..self.used] } else { &[] }
    }

    pub(super) fn release(&mut self) {
        self.list.release();
        (self.used, self.of) = (0, 0);
    }
}
