//! What the process's resident memory is, page by page: the heap's extents by state, the library's own tables, and the
//! rest by mapping.

use alloc::vec::Vec;

use alloc_core::State;
use alloc_core::first_thread::own_file;
use alloc_core::sys::{self, PAGE, extra, sandbox};
use pprof_export::writer::SinkError;

use crate::HEAP;
use crate::maps::{self, Line};
use crate::snapshot::push;
use crate::table;

/// Resident bytes of the process.
#[derive(Debug, Default)]
pub struct Resident {
    /// Of slabs and large blocks of the program.
    pub active: u64,
    /// Of unused extents that are kept backed.
    pub dirty: u64,
    /// Of unused extents that were given back lazily.
    pub muzzy: u64,
    /// Of unused extents that count as given back: what huge pages brought along, or was backed ahead of its use.
    pub retained: u64,
    /// Of the allocator's own descriptors, thread states, maps and blocks.
    pub internal: u64,
    /// Of the profiler's tables.
    pub tables: u64,
    /// All of the process, as the mappings tell.
    pub all: u64,
    /// The rest of each mapping: its name, and bytes. Negative where pages changed meanwhile.
    pub rest: Vec<(Name, i64)>,
}

/// The end of a mapping's name.
pub type Name = ([u8; NAME_BYTES], u8);

const NAME_BYTES: usize = 96;

fn name(path: &[u8]) -> Name {
    let path = if path.is_empty() { b"[anonymous]" } else { path };
    let path = &path[path.len().saturating_sub(NAME_BYTES)..];
    let mut name = [0; NAME_BYTES];
    name[..path.len()].copy_from_slice(path);
    (name, path.len() as u8)
}

/// The kernel's table of pages.
struct Pages {
    fd: Option<usize>,
}

impl Pages {
    fn open() -> Self {
        Pages {
            fd: extra::retry(|| sys::open_read(own_file(c"/proc/self/pagemap", c"/proc/thread-self/pagemap"))).ok(),
        }
    }

    /// Resident bytes of a range of whole pages; all of them where the kernel doesn't tell. Before Linux 6.7 those are
    /// among them that were read and never written, behind which there is no memory.
    fn resident(&self, start: usize, end: usize) -> u64 {
        const ENTRY: usize = 8;
        const PRESENT: u64 = 1 << 63;
        let whole = end.saturating_sub(start) as u64;
        let Some(fd) = self.fd else { return in_memory(start, end).unwrap_or(whole) };
        if let Ok(bytes) = extra::retry(|| extra::backed_bytes(fd, start, end)) {
            return bytes;
        }
        let mut buffer = [0u8; 512 * ENTRY];
        let (mut page, last, mut found) = (start / PAGE, end / PAGE, 0u64);
        while page < last {
            let wanted = (last - page).min(buffer.len() / ENTRY) * ENTRY;
            let room = &mut buffer[..wanted];
            let Ok(got) = extra::retry(|| extra::read_at(fd, room, (page * ENTRY) as u64)) else { return whole };
            let entries = got / ENTRY;
            if entries == 0 {
                break;
            }
            for entry in buffer[..entries * ENTRY].chunks_exact(ENTRY) {
                let entry = u64::from_le_bytes(entry.try_into().unwrap_or_default());
                found += u64::from(entry & PRESENT != 0);
            }
            page += entries;
        }
        found * PAGE as u64
    }
}

/// Resident bytes of a range of whole pages where the table can't be read, as that of a process which can't be debugged
/// (`PR_SET_DUMPABLE`, capabilities of its file). `None`: that can't be asked either.
fn in_memory(start: usize, end: usize) -> Option<u64> {
    const PAGES: usize = 4096;
    if sandbox::is_filtered() {
        return None;
    }
    let (mut pages, mut found) = ([0u8; PAGES], 0);
    for at in (start..end).step_by(PAGES * PAGE) {
        let there = &mut pages[..((end - at) / PAGE).min(PAGES)];
        extra::resident_pages(at, there).ok()?;
        found += there.iter().filter(|page| **page & 1 != 0).count();
    }
    Some((found * PAGE) as u64)
}

impl Drop for Pages {
    fn drop(&mut self) {
        if let Some(fd) = self.fd {
            sys::close(fd);
        }
    }
}

/// Looks at all mappings. What other threads map, touch and give back meanwhile is in it or not.
///
/// # Errors
/// There is no `/proc`, or no memory.
pub fn look() -> Result<Resident, SinkError> {
    let text = maps::read_file(own_file(c"/proc/self/smaps", c"/proc/thread-self/smaps"))?;
    let pages = Pages::open();
    let mut resident = Resident::default();
    let mut metadata = Vec::new();
    for range in HEAP.metadata_ranges() {
        push(&mut metadata, range)?;
    }
    let mut line: Option<Line<'_>> = None;
    // The end of an extent that reaches beyond its mapping, and what it is.
    let mut carried = (0, State::Unused, false);
    for text in text.split(|&b| b == b'\n') {
        if let Some(rest) = text.strip_prefix(b"Rss:") {
            let Some(mapping) = line.take() else { continue };
            let rss = maps::decimal(rest.trim_ascii_start()).unwrap_or(0) * 1024;
            resident.all += rss;
            if rss > 0 {
                let active = resident.active;
                let mapped = (mapping.start as usize, mapping.limit as usize);
                let mut ours = resident.divide(&pages, mapped, &metadata, &mut carried);
                // What no memory stands behind, where the kernel's table doesn't tell that.
                let unbacked = ours.saturating_sub(rss).min(resident.active - active);
                resident.active -= unbacked;
                ours -= unbacked;
                resident.add_rest(mapping.path, rss.cast_signed() - ours.cast_signed())?;
            }
        } else if text.first().is_some_and(u8::is_ascii_hexdigit)
            && let Some(mapping) = Line::parse(text)
        {
            line = Some(mapping);
        }
    }
    Ok(resident)
}

impl Resident {
    /// Adds what a mapping holds of the heap and of tables; returns how much that is.
    fn divide(
        &mut self,
        pages: &Pages,
        (start, end): (usize, usize),
        metadata: &[(usize, usize)],
        carried: &mut (usize, State, bool),
    ) -> u64 {
        let inside = |(from, to): (usize, usize)| {
            let (from, to) = (from.max(start), to.next_multiple_of(PAGE).min(end));
            if from < to { pages.resident(from, to) } else { 0 }
        };
        let tables: u64 = table::reserved().map(inside).sum();
        let internal: u64 = metadata.iter().copied().map(inside).sum();
        self.tables += tables;
        self.internal += internal;
        let mut ours = tables + internal;
        let mut at = start;
        while at < end {
            let (extent_end, state, internal) = if carried.0 > at {
                *carried
            } else if let Some(extent) = HEAP.extent_at(at) {
                extent
            } else {
                at += PAGE;
                continue;
            };
            let to = extent_end.min(end);
            if to <= at {
                break;
            }
            let found = pages.resident(at, to);
            let place = match state {
                State::Active if internal => &mut self.internal,
                State::Active => &mut self.active,
                State::Dirty | State::Pinned => &mut self.dirty,
                State::Muzzy => &mut self.muzzy,
                State::Retained | State::Transit | State::Unused => &mut self.retained,
            };
            *place += found;
            ours += found;
            *carried = (extent_end, state, internal);
            at = to;
        }
        ours
    }

    fn add_rest(&mut self, path: &[u8], bytes: i64) -> Result<(), SinkError> {
        let name = name(path);
        if let Some((_, sum)) = self.rest.iter_mut().find(|(known, _)| *known == name) {
            *sum += bytes;
            return Ok(());
        }
        push(&mut self.rest, (name, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_resident_is_something() {
        let block = HEAP.allocate(8 << 20);
        // SAFETY: a block of that size.
        unsafe { block.write_bytes(1, 4 << 20) };
        let resident = look().unwrap();
        assert!(resident.active >= 4 << 20 && resident.active < 8 << 20, "{resident:?}");
        let Resident { active, dirty, muzzy, retained, internal, tables, .. } = resident;
        let rest: i64 = resident.rest.iter().map(|(_, bytes)| bytes).sum();
        let sum = (active + dirty + muzzy + retained + internal + tables).cast_signed() + rest;
        assert_eq!(sum, resident.all.cast_signed());
        let told = crate::memory::resident_bytes().unwrap() as f64;
        assert!((resident.all as f64 / told - 1.0).abs() < 0.2, "{} of {told}", resident.all);
        let start = block.addr().next_multiple_of(PAGE);
        let [without, with] = [Pages { fd: None }, Pages::open()].map(|pages| pages.resident(start, start + (7 << 20)));
        assert_eq!(without, if sandbox::is_filtered() { 7 << 20 } else { with });
        // SAFETY: the block from above.
        unsafe { HEAP.deallocate(block) };
    }
}
