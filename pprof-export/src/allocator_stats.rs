//! The allocator's own numbers, which travel with a dump as field 1000 of the Profile message.
//!
//! Compiled into both halves of the crate; only the offline half knows it as a prost message. Readers
//! that do not know the field ignore it, as the protobuf rules say.

use alloc::vec::Vec;

/// Number of the field in `Profile`. It lies far above what profile.proto uses.
pub const FIELD: u32 = 1000;
/// Number of the field of [`ClassTotal`] in [`AllocatorStats`].
pub(crate) const CLASSES: u32 = 12;

/// The allocator's exact numbers at the instant of the dump, in bytes. 0 also stands for "unknown".
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "reader", derive(prost::Message))]
#[cfg_attr(not(feature = "reader"), derive(Debug, Default))]
pub struct AllocatorStats {
    /// In blocks that the program holds.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "1"))]
    pub allocated: u64,
    /// In OS pages that hold at least one such block.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "2"))]
    pub active: u64,
    /// In the allocator's own structures.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "3"))]
    pub metadata: u64,
    /// Backed by memory, as far as the allocator knows: active, dirty and metadata.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "4"))]
    pub resident: u64,
    /// In active extents as the operating system sees them.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "5"))]
    pub mapped: u64,
    /// Address space kept for later, not backed.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "6"))]
    pub retained: u64,
    /// In thread caches.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "7"))]
    pub tcache: u64,
    /// In unused extents, still backed.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "8"))]
    pub dirty: u64,
    /// In unused extents, given back lazily.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "9"))]
    pub muzzy: u64,
    /// Resident memory of the whole process, as the operating system counts it.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "10"))]
    pub rss: u64,
    /// The process's share of it, pages that several processes use divided among them.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "11"))]
    pub pss: u64,
    /// What the program holds by size class, smallest first; classes without blocks are left out.
    #[cfg_attr(feature = "reader", prost(message, repeated, tag = "12"))]
    pub classes: Vec<ClassTotal>,
    /// The most that `allocated` has been, as far as anybody looked (with `prof_peak`).
    #[cfg_attr(feature = "reader", prost(uint64, tag = "13"))]
    pub allocated_max: u64,
}

/// Exact totals of the blocks of one size class that the program holds.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "reader", derive(prost::Message))]
#[cfg_attr(not(feature = "reader"), derive(Debug, Default))]
pub struct ClassTotal {
    /// Usable bytes of each block; 0 for the blocks above all classes, whose sizes are whole pages.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "1"))]
    pub size: u64,
    /// Blocks.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "2"))]
    pub blocks: u64,
    /// Their usable bytes.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "3"))]
    pub bytes: u64,
    /// Pages behind them, in bytes: those of the slabs; for large blocks the same as `bytes`.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "4"))]
    pub active: u64,
    /// Bytes of blocks of the class in thread caches.
    #[cfg_attr(feature = "reader", prost(uint64, tag = "5"))]
    pub tcache: u64,
}

impl ClassTotal {
    /// The numbers with their field numbers, in order.
    pub(crate) fn fields(&self) -> [(u32, u64); 5] {
        [(1, self.size), (2, self.blocks), (3, self.bytes), (4, self.active), (5, self.tcache)]
    }

    /// The number with the given field number, to be set.
    #[cfg(feature = "reader")]
    pub(crate) fn field_mut(&mut self, number: u32) -> Option<&mut u64> {
        Some(match number {
            1 => &mut self.size,
            2 => &mut self.blocks,
            3 => &mut self.bytes,
            4 => &mut self.active,
            5 => &mut self.tcache,
            _ => return None,
        })
    }
}

impl AllocatorStats {
    /// The numbers with their field numbers, in order; [`AllocatorStats::classes`] are written apart.
    pub(crate) fn fields(&self) -> [(u32, u64); 12] {
        [
            (1, self.allocated),
            (2, self.active),
            (3, self.metadata),
            (4, self.resident),
            (5, self.mapped),
            (6, self.retained),
            (7, self.tcache),
            (8, self.dirty),
            (9, self.muzzy),
            (10, self.rss),
            (11, self.pss),
            (13, self.allocated_max),
        ]
    }

    /// The number with the given field number, to be set.
    #[cfg(feature = "reader")]
    pub(crate) fn field_mut(&mut self, number: u32) -> Option<&mut u64> {
        Some(match number {
            1 => &mut self.allocated,
            2 => &mut self.active,
            3 => &mut self.metadata,
            4 => &mut self.resident,
            5 => &mut self.mapped,
            6 => &mut self.retained,
            7 => &mut self.tcache,
            8 => &mut self.dirty,
            9 => &mut self.muzzy,
            10 => &mut self.rss,
            11 => &mut self.pss,
            13 => &mut self.allocated_max,
            _ => return None,
        })
    }
}
