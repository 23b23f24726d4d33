//! Size classes: jemalloc's rule. 8; 16 to 128 by 16; then four classes per doubling.
//!
//! Classes are numbered from 1, so that 0 can mean "no class" in the page map. The first [`NBINS`] are cut from slabs,
//! the next ones up to [`NHBINS`] are runs of whole pages, and so are those up to [`NCLASSES`], eight per doubling: all of
//! these can be in thread caches. (With a class for each number of pages a block hardly ever fits the next request.) Above,
//! sizes are rounded up to whole pages and have no class.

use core::sync::atomic::{AtomicU16, Ordering};

use crate::sys::PAGE;

/// Classes that are cut from slabs: 8 to 14336 bytes.
pub const NBINS: usize = 36;
/// Classes that a thread cache can hold: 8 to 32768 bytes.
pub const NHBINS: usize = 41;
/// The largest size of a slab class, in bytes.
pub const SMALL_MAX: usize = 14336;
/// The largest size of a cached class, in bytes.
pub const CACHED_MAX: usize = 32768;
/// The largest size that has a class, in bytes.
pub const CLASS_MAX: usize = 256 << 10;
/// Classes in all.
pub const NCLASSES: usize = NHBINS + 8 * (CLASS_MAX / CACHED_MAX).ilog2() as usize;
/// The largest request that the table of the fast path covers, in bytes.
pub const TABLE_MAX: usize = 4096;
/// Large classes, by which large blocks are counted: those from 16 KiB up, four for each doubling.
pub const NLEXTENTS: usize = 196;
/// The largest size class; greater requests fail.
pub const MAX_SIZE_CLASS: usize = 0x7000_0000_0000_0000;
/// Most regions that a slab has.
pub const MAX_REGIONS: usize = 512;

/// Slab classes up to this one, of 256 bytes, have a second place: the cache lines of such blocks are often those of their
/// neighbours too.
pub(crate) const PAIRED: usize = 13;
/// Places in thread caches and in the bytes of the page map: none, those of all classes, and the second ones, which the slabs
/// of arenas with odd numbers have.
pub const PLACES: usize = 1 + NCLASSES + PAIRED;

/// Where a class is in an arena, or for a thread of one, whose number is odd or not.
#[inline]
pub(crate) const fn place(class: usize, is_odd: bool) -> usize {
    if is_odd && class <= PAIRED { class + NCLASSES } else { class }
}

/// The class at a place.
#[inline]
pub(crate) const fn class_at(place: usize) -> usize {
    if place > NCLASSES { place - NCLASSES } else { place }
}

/// Whether a place is one of a slab class.
#[inline]
pub(crate) const fn is_slab(place: usize) -> bool {
    place <= NBINS || place > NCLASSES
}

const fn make_sizes() -> [u32; PLACES] {
    let mut sizes = [0u32; PLACES];
    sizes[1] = 8;
    let mut class = 2;
    while class <= NCLASSES {
        sizes[class] = if class > NHBINS {
            let step = class - NHBINS - 1;
            let base = CACHED_MAX << (step / 8);
            (base + (step % 8 + 1) * (base / 8)) as u32
        } else if class <= 9 {
            // 16 to 128 by 16.
            (class as u32 - 1) * 16
        } else {
            let step = class as u32 - 10;
            let base = 128u32 << (step / 4);
            base + (step % 4 + 1) * (base / 4)
        };
        class += 1;
    }
    while class < PLACES {
        sizes[class] = sizes[class_at(class)];
        class += 1;
    }
    sizes
}

/// Usable bytes by class, at all places of each; index 0 is unused.
pub static SIZES: [u32; PLACES] = make_sizes();
pub(crate) const SIZES_CONST: [u32; PLACES] = make_sizes();

const TABLE_LEN: usize = TABLE_MAX + 1;

const fn make_table() -> [u8; TABLE_LEN] {
    let mut table = [0u8; TABLE_LEN];
    let mut class = 1usize;
    let mut i = 0;
    while i < TABLE_LEN {
        while SIZES_CONST[class] < i as u32 {
            class += 1;
        }
        table[i] = class as u8;
        i += 1;
    }
    table
}

/// Class by bytes, for requests up to [`TABLE_MAX`]. A byte for each size, not for each eighth: two instructions less.
pub static TABLE: [u8; TABLE_LEN] = make_table();

/// The class of a request of at most [`CLASS_MAX`] bytes.
#[inline]
pub fn class_of(bytes: usize) -> usize {
    debug_assert!(bytes <= CLASS_MAX);
    if bytes <= TABLE_MAX {
        TABLE[bytes] as usize
    } else if bytes > CACHED_MAX {
        // `bytes` lies in (2^lg, 2^(lg+1)]; eight classes share that range.
        let lg = (bytes - 1).ilog2();
        let eighth = ((bytes - 1) >> (lg - 3)) & 7;
        NHBINS + 1 + (lg as usize - CACHED_MAX.ilog2() as usize) * 8 + eighth
    } else {
        // `bytes` lies in (2^lg, 2^(lg+1)]; four classes share that range.
        let lg = (bytes - 1).ilog2();
        let quarter = ((bytes - 1) >> (lg - 2)) & 3;
        10 + (lg as usize - 7) * 4 + quarter
    }
}

/// Usable bytes of class `class` (from 1), or of the class at a place.
#[inline]
pub fn class_bytes(class: usize) -> usize {
    SIZES[class] as usize
}

/// Usable bytes of the class at jemalloc's index `i` (from 0).
pub fn class_size(i: usize) -> usize {
    class_bytes(i + 1)
}

/// The class of a large block of `bytes` (whole pages), 0 for one that has none.
#[inline]
pub fn large_class(bytes: usize) -> usize {
    if bytes <= CLASS_MAX { class_of(bytes) } else { 0 }
}

const fn gcd(mut a: usize, mut b: usize) -> usize {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A slab has so many regions at least: one of fewer comes from the page layer, and goes back there, for every few blocks.
const REGIONS_MIN: usize = 8;
/// A slab has so many pages at least, or else [`MAX_REGIONS`] regions, for the same reason, and since each has a descriptor.
/// With four in all classes slabs that are little used cost more than that saves.
const PAGES_MIN: usize = 3;
const PAGES_MIN_FROM_128_BYTES: usize = 4;

/// Pages and regions of a slab by class: the fewest pages that regions fill without a rest, and a multiple of them where
/// that is too little, unless `slab_sizes` says otherwise. (jemalloc takes the fewest.)
struct Slabs {
    pages: [AtomicU16; NBINS + 1],
    regions: [AtomicU16; NBINS + 1],
}

const fn make_slabs() -> Slabs {
    let mut slabs =
        Slabs { pages: [const { AtomicU16::new(0) }; NBINS + 1], regions: [const { AtomicU16::new(0) }; NBINS + 1] };
    let mut class = 1;
    while class <= NBINS {
        let size = SIZES_CONST[class] as usize;
        let fewest = size / gcd(size, PAGE);
        let mut pages = fewest;
        let (least, most) = (if size < 128 { PAGES_MIN } else { PAGES_MIN_FROM_128_BYTES }, MAX_REGIONS * size / PAGE);
        while pages * PAGE / size < REGIONS_MIN || (pages < least && pages + fewest <= most) {
            pages += fewest;
        }
        slabs.pages[class] = AtomicU16::new(pages as u16);
        slabs.regions[class] = AtomicU16::new((pages * PAGE / size) as u16);
        class += 1;
    }
    slabs
}

static SLABS: Slabs = make_slabs();

/// Most pages that a slab of class `class` may have: no more than [`MAX_REGIONS`] regions fit.
pub fn slab_pages_max(class: usize) -> usize {
    MAX_REGIONS * class_bytes(class) / PAGE
}

/// Sets the pages of slabs of class `class`, within what is possible. Only while the heap boots: slabs that there are
/// would be misread.
pub(crate) fn set_slab_pages(class: usize, pages: usize) {
    let pages = pages.clamp(class_bytes(class).div_ceil(PAGE), slab_pages_max(class));
    // Relaxed: the heap's boot orders this before everything else.
    SLABS.pages[class].store(pages as u16, Ordering::Relaxed);
    SLABS.regions[class].store((pages * PAGE / class_bytes(class)) as u16, Ordering::Relaxed);
}

/// Pages of a slab of class `class`.
#[inline]
pub fn slab_pages_of(class: usize) -> usize {
    SLABS.pages[class].load(Ordering::Relaxed) as usize
}

/// Regions of a slab of class `class`.
#[inline]
pub fn regions(class: usize) -> usize {
    SLABS.regions[class].load(Ordering::Relaxed) as usize
}

const fn make_regions_fewest() -> [u16; NBINS + 1] {
    let mut regions = [0; NBINS + 1];
    let mut class = 1;
    while class <= NBINS {
        regions[class] = (PAGE / gcd(SIZES_CONST[class] as usize, PAGE)) as u16;
        class += 1;
    }
    regions
}

/// A table, since each thread that starts asks for all classes.
static REGIONS_FEWEST: [u16; NBINS + 1] = make_regions_fewest();

/// Regions of the smallest slab that they fill without a rest.
pub(crate) fn regions_fewest(class: usize) -> usize {
    REGIONS_FEWEST[class].into()
}

/// Pages of a slab of the class at jemalloc's index `i` (from 0).
pub fn slab_pages(i: usize) -> usize {
    slab_pages_of(i + 1)
}

/// Regions of a slab of the class at jemalloc's index `i` (from 0).
pub fn slab_regions(i: usize) -> usize {
    regions(i + 1)
}

const fn make_reciprocals() -> [u32; NBINS + 1] {
    let mut r = [0u32; NBINS + 1];
    let mut class = 1;
    while class <= NBINS {
        // ceil(2^32 / size): the product is too large by less than offset / 2^32, so the quotient is exact for starts of
        // regions in all slabs, and for any offset in slabs of the usual size; see `tests::division_is_exact`.
        r[class] = ((1u64 << 32).div_ceil(SIZES_CONST[class] as u64)) as u32;
        class += 1;
    }
    r
}

static RECIPROCALS: [u32; NBINS + 1] = make_reciprocals();

/// `offset / class_bytes(class)` for an offset inside of a slab, by multiplication.
#[inline]
pub fn region_index(class: usize, offset: usize) -> usize {
    index_by(reciprocal(class), offset)
}

/// What [`index_by`] multiplies with, for many offsets of one class.
#[inline]
pub fn reciprocal(class: usize) -> u64 {
    RECIPROCALS[class].into()
}

/// As [`region_index`], by a class's [`reciprocal`].
#[inline]
pub fn index_by(reciprocal: u64, offset: usize) -> usize {
    ((offset as u64 * reciprocal) >> 32) as usize
}

/// Rounds up to whole pages; `None` when that passes [`MAX_SIZE_CLASS`].
#[inline]
pub fn page_ceil(bytes: usize) -> Option<usize> {
    if bytes > MAX_SIZE_CLASS { None } else { Some((bytes + PAGE - 1) & !(PAGE - 1)) }
}

/// The bytes of a large block for a request of `bytes`: those of its class, or whole pages; `None` when that passes
/// [`MAX_SIZE_CLASS`].
#[inline]
fn large_ceil(bytes: usize) -> Option<usize> {
    if bytes <= CLASS_MAX { Some(class_bytes(class_of(bytes))) } else { page_ceil(bytes) }
}

/// The size whose class is naturally aligned to `align` (a power of two up to a page) and holds `bytes`, if that is a
/// slab class.
#[inline]
pub fn small_aligned(bytes: usize, align: usize) -> Option<usize> {
    if bytes > SMALL_MAX || align > PAGE {
        return None;
    }
    // A multiple of `align` whose class has a spacing that `align` divides: classes between two powers of two are
    // multiples of a quarter of the lower one, and a multiple of a coarser `align` there is itself a class.
    let rounded = (bytes.max(1) + align - 1) & !(align - 1);
    (rounded <= SMALL_MAX).then_some(rounded)
}

/// The usable size of a request, 0 when it is too large (`nallocx`).
pub fn usable_size_for(bytes: usize, align: usize) -> usize {
    if bytes > MAX_SIZE_CLASS || align > MAX_SIZE_CLASS {
        return 0;
    }
    if let Some(rounded) = small_aligned(bytes, align) {
        return class_bytes(class_of(rounded));
    }
    // A large block of at least the smallest large class.
    let Some(usable) = large_ceil(bytes.max(SMALL_MAX + 1)) else { return 0 };
    if align > PAGE && usable.checked_add(align).is_none_or(|total| total > MAX_SIZE_CLASS) { 0 } else { usable }
}

/// The position of the smallest large class that holds `bytes`, from 0 for 16 KiB and less.
#[inline]
pub fn large_index(bytes: usize) -> usize {
    if bytes <= 16384 {
        return 0;
    }
    // 16 KiB is the last class of its doubling; the next ones are 20, 24, 28, 32 KiB and so on.
    let lg = (bytes - 1).ilog2() as usize;
    let quarter = ((bytes - 1) >> (lg - 2)) & 3;
    (1 + (lg - 14) * 4 + quarter).min(NLEXTENTS - 1)
}

/// Bytes of the large class at a position.
pub fn large_class_size(index: usize) -> usize {
    if index == 0 {
        return 16384;
    }
    let base = 16384usize << ((index - 1) / 4);
    base + ((index - 1) % 4 + 1) * (base / 4)
}

/// The largest of jemalloc's classes of whole pages that is no larger than `bytes`, at least a page.
pub fn class_within(bytes: usize) -> usize {
    // Four to a doubling, a page apart where that is more.
    let quarter = (1usize << (bytes.max(PAGE).ilog2())) / 4;
    bytes.max(PAGE) & !(quarter.max(PAGE) - 1)
}

const _: () = assert!(SIZES_CONST[NBINS] as usize == SMALL_MAX && SIZES_CONST[NHBINS] as usize == CACHED_MAX);
const _: () = assert!(SIZES_CONST[NCLASSES] as usize == CLASS_MAX && NCLASSES < crate::pagemap::FLAG as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_monotone_and_tight() {
        for bytes in 0..=CLASS_MAX {
            let class = class_of(bytes);
            assert!(class_bytes(class) >= bytes, "{bytes}");
            assert!(class == 1 || class_bytes(class - 1) < bytes, "{bytes}");
            if bytes > 64 {
                assert!((class_bytes(class) - bytes) * 5 <= class_bytes(class), "waste at {bytes}");
            }
        }
    }

    #[test]
    fn classes_of_whole_pages() {
        let kib = |class: usize| class_bytes(class) >> 10;
        assert_eq!([0, 1, 2, 3, 4, 5].map(|n| kib(NBINS + 1 + n)), [16, 20, 24, 28, 32, 36]);
        assert_eq!([7, 8, 9, 10].map(|n| kib(NHBINS + n)), [60, 64, 72, 80]);
        assert_eq!([2, 1, 0].map(|n| kib(NCLASSES - n)), [224, 240, 256]);
        assert!((NBINS + 1..=NCLASSES).all(|class| class_bytes(class).is_multiple_of(PAGE)));
    }

    #[test]
    fn division_is_exact() {
        for class in 1..=NBINS {
            for offset in 0..slab_pages_of(class) * PAGE {
                assert_eq!(region_index(class, offset), offset / class_bytes(class));
            }
            for region in 0..MAX_REGIONS {
                assert_eq!(region_index(class, region * class_bytes(class)), region);
            }
        }
    }

    #[test]
    fn classes_of_pages() {
        for (bytes, class) in [
            (4096, 4096),
            (4097, 4096),
            (8191, 4096),
            (12288, 12288),
            (16384, 16384),
            (20479, 16384),
            (28672, 28672),
            (32768, 32768),
            (40959, 32768),
            (40960, 40960),
            (57343, 49152),
            (57344, 57344),
            (65535, 57344),
        ] {
            assert_eq!(class_within(bytes), class, "{bytes}");
        }
    }

    #[test]
    fn large_classes() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(large_class_size), [16384, 20480, 24576, 28672, 32768, 40960]);
        assert_eq!(large_class_size(NLEXTENTS - 1), MAX_SIZE_CLASS);
        for index in 0..NLEXTENTS {
            let bytes = large_class_size(index);
            assert_eq!(
                (large_index(bytes), large_index(bytes - 1), large_index(bytes + 1)),
                (index, index, (index + 1).min(NLEXTENTS - 1))
            );
        }
    }

    #[test]
    fn slabs_are_filled_without_a_rest() {
        assert_eq!((slab_pages(0), slab_regions(0)), (1, 512));
        assert_eq!((slab_pages(3), slab_regions(3)), (3, 256));
        assert_eq!((class_size(8), slab_pages(8), slab_regions(8)), (128, 4, 128));
        assert_eq!((slab_pages(35), slab_regions(35)), (28, 8));
        for i in 0..NBINS {
            assert!((REGIONS_MIN..=MAX_REGIONS).contains(&slab_regions(i)) && slab_pages(i) <= 28);
            assert_eq!(slab_pages(i) * PAGE, slab_regions(i) * class_size(i));
        }
    }

    #[test]
    fn aligned_sizes() {
        for lg in 0..=12 {
            let align = 1usize << lg;
            for bytes in 1..=SMALL_MAX {
                if let Some(rounded) = small_aligned(bytes, align) {
                    assert_eq!(class_bytes(class_of(rounded)) % align, 0, "{bytes} {align}");
                }
            }
        }
        assert_eq!(usable_size_for(1, 1), 8);
        assert_eq!(usable_size_for(14337, 1), 16384);
        assert_eq!(usable_size_for(16385, 1), 20480);
        assert_eq!(usable_size_for(100_000, 1), 104 << 10);
        assert_eq!(usable_size_for(300_000, 1), 74 << 12);
        assert_eq!(usable_size_for(100, 2 << 20), 16384);
        assert_eq!(usable_size_for(MAX_SIZE_CLASS + 1, 1), 0);
    }
}
