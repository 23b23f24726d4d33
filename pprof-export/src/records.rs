//! What the caller of the writer hands over: header, mappings, rows, labels.
//!
//! Texts that the program under observation chose (paths, thread names) are bytes; the writer makes them
//! valid UTF-8. Names that we chose are `str`.

use alloc::vec::Vec;

/// What a column of values counts, and in which unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueType<'a> {
    /// `inuse_space`, ….
    pub kind: &'a str,
    /// `bytes` or `count`.
    pub unit: &'a str,
}

/// The comment of a dump that tells of the peak, by which a reader knows it for one: it lies between two moments of the process
/// that are dumped.
pub const PEAK_COMMENT: &str = "the moment of most allocated memory";

/// The columns of a heap profile: always these four, always in this order, so that any two dumps can
/// be compared by any reader.
pub const HEAP_TYPES: [ValueType<'static>; 4] = [
    ValueType { kind: "alloc_objects", unit: "count" },
    ValueType { kind: "alloc_space", unit: "bytes" },
    ValueType { kind: "inuse_objects", unit: "count" },
    ValueType { kind: "inuse_space", unit: "bytes" },
];

/// Functions that stand between the caller and the allocator and tell nobody anything. Readers anchor
/// the expression, so each alternative is a whole name. The allocator's own frames are cut by address
/// when the stack is captured and need no name here.
pub const DROP_FRAMES: &str = "malloc|calloc|realloc|reallocarray|(posix_)?memalign|aligned_alloc|\
    p?valloc|operator new(\\[\\])?|(__rustc::)?__(rust_(alloc|realloc|alloc_zeroed)|r[gd]l_.*)|alloc::alloc::.*|\
    <(alloc::alloc::Global|std::alloc::System|heapsift::global::Heapsift) as .*";

/// Functions that stand between who frees and the allocator: for files in which stacks that free follow those that allocate.
/// [`DROP_FRAMES`] would match in the middle there, and readers cut all that follows a match.
pub const DROP_FREES: &str = "free|cfree|operator delete(\\[\\])?|(__rustc::)?__r(ust|dl|g)_dealloc|\
    <?(alloc::alloc|std::alloc|heapsift::global)::.*dealloc.*";

/// What is true of the whole file.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// The columns.
    pub sample_types: &'a [ValueType<'a>],
    /// The column to show when none is asked for.
    pub default_sample_type: &'a str,
    /// What `period` counts.
    pub period_type: ValueType<'a>,
    /// Mean distance of two samples, in bytes. Rows sampled with another one carry a label `period`.
    pub period: i64,
    /// Time of the dump, in nanoseconds since 1970.
    pub time_nanos: i64,
    /// What a profile of a span of time covers; 0 for a state.
    pub duration_nanos: i64,
    /// Functions to cut from the leaf end of a stack; "" for none.
    pub drop_frames: &'a str,
    /// Exceptions from `drop_frames`.
    pub keep_frames: &'a str,
    /// An absolute http(s) URL, or "".
    pub doc_url: &'a str,
}

impl Header<'static> {
    /// The header of a heap profile of the four usual columns.
    pub const fn heap(period: i64, time_nanos: i64) -> Self {
        Self {
            sample_types: &HEAP_TYPES,
            default_sample_type: "inuse_space",
            period_type: ValueType { kind: "space", unit: "bytes" },
            period,
            time_nanos,
            duration_nanos: 0,
            drop_frames: DROP_FRAMES,
            keep_frames: "",
            doc_url: "",
        }
    }
}

/// An executable piece of a file in memory.
#[derive(Clone, Copy, Debug)]
pub struct Mapping<'a> {
    /// First address; rounded down to a page, `offset` with it.
    pub start: u64,
    /// One past the last address; rounded up to a page.
    pub limit: u64,
    /// Offset in the file of the byte at `start`.
    pub offset: u64,
    /// Absolute path, or `[vdso]`, `//anon`. Bytes that are not UTF-8 are replaced.
    pub path: &'a [u8],
    /// The bytes of the build id note; empty if there is none.
    pub build_id: &'a [u8],
}

/// A label of a row. One value per key and row.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// `bytes`, `thread`, `epoch`, `period`, ….
    pub key: &'a str,
    /// What it says.
    pub value: LabelValue<'a>,
}

/// What a label says.
#[derive(Clone, Copy, Debug)]
pub enum LabelValue<'a> {
    /// Text; bytes that are not UTF-8 are replaced. Readers drop empty text.
    Text(&'a [u8]),
    /// A number. Readers drop 0 without a unit.
    Number {
        /// The number.
        value: i64,
        /// Its unit.
        unit: &'a str,
    },
}

/// Labels as rows have them, made by [`crate::writer::Writer::labels`].
#[derive(Clone, Debug, Default)]
pub struct LabelSet(pub(crate) Vec<u8>);

impl LabelSet {
    /// No label.
    pub const NONE: Self = Self(Vec::new());
}

/// A frame that stands for no instruction: `[truncated stack]`, `[thread caches]`, ….
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualFrame(pub(crate) u64);

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// Addresses, leaf first, each the return address − 1.
    pub stack: &'a [u64],
    /// A frame to stand above the last address. A row without any frame gets `[unknown stack]`, since
    /// readers lose rows without one.
    pub root: Option<VirtualFrame>,
    /// One value per sample type of the header. A row of zeros is left out.
    pub values: &'a [i64],
    /// Labels.
    pub labels: &'a [Label<'a>],
}
