//! The allocator's own numbers, which travel with a dump as field 1000 of the Profile message.
//!
//! Compiled into both halves of the crate; only the offline half knows it as a prost message. Readers
//! that do not know the field ignore it, as the protobuf rules say.

/// Number of the field in `Profile`. It lies far above what profile.proto uses.
pub const FIELD: u32 = 1000;

/// The allocator's exact numbers at the instant of the dump, in bytes. 0 also stands for "unknown".
#[derive(Clone, Copy, PartialEq, Eq)]
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
}

impl AllocatorStats {
    /// The numbers with their field numbers, in order.
    pub(crate) fn fields(&self) -> [(u32, u64); 11] {
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
            _ => return None,
        })
    }
}
