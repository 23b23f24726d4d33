//! A search table for a static executable that isn't position independent, where linkers make none.
//!
//! Its frames are registered with the compiler's unwinder instead, which takes a lock for each of them (before GCC 13): one
//! that another thread holds at a fork stays held in the child. And it ends the process when it is asked for frames that
//! are registered no more, as is so while the process ends. So a table is made where a linker's would say the same: in front
//! of the program, from the section that the program's file tells.

use alloc_core::sys::{self, extra};
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicUsize, Ordering};
use gimli::{BaseAddresses, CieOrFde, EhFrame, NativeEndian, UnwindSection};

/// Where the table is; 0: none was made.
static TABLE: AtomicUsize = AtomicUsize::new(0);
/// Where the code begins that it is for.
static CODE: AtomicUsize = AtomicUsize::new(0);

/// The table for the module whose code begins at `start`; 0 where none was made.
pub(super) fn table(start: usize) -> usize {
    // Acquire: whoever finds it finds what is in it.
    let table = TABLE.load(Ordering::Acquire);
    if table != 0 && start == CODE.load(Ordering::Relaxed) { table } else { 0 }
}

/// Makes the table for the program, whose code begins at `start`; false where that can't be, or it is there already.
pub(super) fn make(start: usize) -> bool {
    let Ok(fd) = sys::open_read(c"/proc/self/exe") else { return false };
    let place = section(fd);
    sys::close(fd);
    let Some(table) = place.and_then(|(frames, bytes, program)| write(frames, bytes, program)) else { return false };
    CODE.store(start, Ordering::Relaxed);
    TABLE.store(table, Ordering::Release);
    true
}

/// Of `Elf64_Ehdr`, what is looked at.
#[repr(C)]
#[derive(Default)]
struct Head {
    identity: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    segments_at: u64,
    sections_at: u64,
    flags: u32,
    bytes: u16,
    segment_bytes: u16,
    segments: u16,
    section_bytes: u16,
    sections: u16,
    names: u16,
}

/// `Elf64_Phdr`.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

/// `Elf64_Shdr`.
#[repr(C)]
#[derive(Default)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    bytes: u64,
    rest: [u64; 3],
}

/// Reads a structure of numbers at an offset of a file.
fn read<T: Default>(fd: usize, offset: u64) -> Option<T> {
    let mut value = T::default();
    // SAFETY: of the value, which is borrowed for nobody else; its bytes may be any, as it is made of numbers.
    let bytes = unsafe { core::slice::from_raw_parts_mut((&raw mut value).cast::<u8>(), size_of::<T>()) };
    (extra::read_at(fd, bytes, offset) == Ok(size_of::<T>())).then_some(value)
}

/// Where the program's section `.eh_frame` lies and its bytes, and where the program begins, if the file is that of the program.
fn section(fd: usize) -> Option<(usize, usize, usize)> {
    const AT_ITS_PLACE: u16 = 2;
    const LOADED: u32 = 1;
    const READABLE: u32 = 4;
    const NAME: [u8; 10] = *b".eh_frame\0";
    let head: Head = read(fd, 0)?;
    let usual =
        head.segment_bytes as usize == size_of::<Segment>() && head.section_bytes as usize == size_of::<Section>();
    if head.kind != AT_ITS_PLACE || !usual {
        return None;
    }
    // SAFETY: asks for what the kernel has told the program.
    let (in_memory, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    if in_memory == 0 || count != u64::from(head.segments) {
        return None;
    }
    let segment = |index: u64| -> Option<Segment> {
        let told: Segment = read(fd, head.segments_at.checked_add(index * size_of::<Segment>() as u64)?)?;
        let at = core::ptr::with_exposed_provenance::<Segment>(in_memory as usize);
        // SAFETY: the kernel says that there are so many in memory, wherever the file has them.
        (unsafe { at.add(index as usize).read_unaligned() } == told).then_some(told)
    };
    let header = |index: u64| read::<Section>(fd, head.sections_at.checked_add(index * size_of::<Section>() as u64)?);
    let names = header(head.names.into())?.offset;
    let frames = (0..head.sections.into()).find_map(|index| {
        let header = header(index)?;
        let name: [u8; 10] = read(fd, names.checked_add(header.name.into())?)?;
        (name == NAME).then_some(header)
    })?;
    let end = frames.address.checked_add(frames.bytes)?;
    let mut first = u64::MAX;
    let mut is_there = false;
    for index in 0..count {
        let Segment { kind, flags, address, file_bytes, .. } = segment(index)?;
        if kind == LOADED {
            first = first.min(address);
            is_there |= flags & READABLE != 0 && address <= frames.address && end <= address.checked_add(file_bytes)?;
        }
    }
    is_there.then_some((frames.address as usize, frames.bytes as usize, first as usize))
}

/// What linkers write: version 1; a distance, a number and distances from the table, of 4 bytes each.
#[repr(C)]
struct Table {
    encodings: [u8; 4],
    frames: i32,
    count: u32,
    // Then for each function where it and its description are.
}

/// Writes the table in front of the program.
fn write(frames: usize, bytes: usize, program: usize) -> Option<usize> {
    // SAFETY: a part of the program that is there for as long as the process.
    let section = unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(frames), bytes) };
    let section = EhFrame::new(section, NativeEndian);
    let bases = BaseAddresses::default().set_eh_frame(frames as u64);
    let each = |put: &mut dyn FnMut(usize, usize)| -> Option<()> {
        let mut entries = section.entries(&bases);
        while let Some(entry) = entries.next().ok()? {
            if let CieOrFde::Fde(partial) = entry {
                let description = partial.parse(EhFrame::cie_from_offset).ok()?;
                put(description.initial_address() as usize, frames + description.offset());
            }
        }
        Some(())
    };
    let mut count = 0;
    each(&mut |_, _| count += 1)?;
    let bytes = sys::PAGE.max((size_of::<Table>() + count * 8).next_multiple_of(sys::PAGE));
    let table = program.checked_sub(bytes)? & !(sys::PAGE - 1);
    sys::map_unused(table, bytes).ok()?;
    let distance = |to: usize| i32::try_from(to.wrapping_sub(table).cast_signed());
    // SAFETY: mapped just now, for nobody else, with room for so many.
    let rows = unsafe {
        let rows = core::ptr::with_exposed_provenance_mut::<[i32; 2]>(table + size_of::<Table>());
        core::slice::from_raw_parts_mut(rows, count)
    };
    let mut filled = 0;
    each(&mut |function, description| {
        // What the linker has left out of the program has no place.
        if let (1.., Ok(at), Ok(told)) = (function, distance(function), distance(description)) {
            rows[filled] = [at, told];
            filled += 1;
        }
    })?;
    let rows = &mut rows[..filled];
    rows.sort_unstable();
    let frames = distance(frames - offset_of!(Table, frames)).ok()?;
    let head = Table { encodings: [1, 0x1b, 0x03, 0x3b], frames, count: filled as u32 };
    // SAFETY: mapped just now, for nobody else.
    unsafe { core::ptr::with_exposed_provenance_mut::<Table>(table).write(head) };
    Some(table)
}
