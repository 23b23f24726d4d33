//! A file of which pieces are read and stay in memory, and that ends early when they have become too many.
//!
//! They are read, not mapped: a file that shrinks meanwhile is a read error, not a signal.

use std::cell::{Cell, OnceCell, RefCell};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use object::ReadRef;

/// Bytes that may be read of any file, and how many times its length besides. Pieces overlap a little: headers, notes and
/// tables are parts of sections that are read whole.
const LEAST: u64 = 64 << 20;
const TIMES: u64 = 4;
/// Bytes that texts have at most.
const MAX_TEXT: usize = 4096;
/// Chains that pieces hang in, and how many may hang in one.
const CHAINS: usize = 1024;
const MAX_CHAIN: usize = 4096;
/// Pieces of this length are asked for in large pages, where the kernel spends less on each byte.
const LARGE: usize = 4 << 20;

/// The file.
#[derive(Debug)]
pub struct Pieces {
    file: RefCell<File>,
    length: u64,
    /// Bytes that may still be read.
    left: Cell<u64>,
    chains: Box<[OnceCell<Box<Piece>>]>,
}

/// Bytes of the file, and whatever has come into the same chain later.
#[derive(Debug)]
struct Piece {
    offset: u64,
    /// What was asked for: so many bytes, or those before this one.
    until: Until,
    bytes: Box<[u8]>,
    next: OnceCell<Box<Piece>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Length(u64),
    Byte(u8),
}

impl Pieces {
    /// Of this file, which is read from nowhere else.
    pub fn new(file: File) -> Self {
        let length = file.metadata().map_or(0, |found| found.len());
        Self {
            file: RefCell::new(file),
            length,
            left: Cell::new(length.saturating_mul(TIMES).saturating_add(LEAST)),
            chains: (0..CHAINS).map(|_| OnceCell::new()).collect(),
        }
    }

    /// The file's length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The piece if it is there already, or what `read` makes of it.
    fn piece(&self, offset: u64, until: Until, read: impl FnOnce() -> Option<Box<[u8]>>) -> Option<&[u8]> {
        let mut slot = &self.chains[chain(offset, until)];
        let mut count = 0;
        while let Some(piece) = slot.get() {
            if piece.offset == offset && piece.until == until {
                return Some(&piece.bytes);
            }
            slot = &piece.next;
            count += 1;
        }
        if count == MAX_CHAIN {
            return None;
        }
        let bytes = read()?;
        Some(&slot.get_or_init(|| Box::new(Piece { offset, until, bytes, next: OnceCell::new() })).bytes)
    }

    /// Notes that so many bytes are read; nothing when they are too many.
    fn take(&self, bytes: u64) -> Option<()> {
        // Past the limit nothing is read any more, however short.
        let left = self.left.get().saturating_sub(bytes);
        self.left.set(left);
        (left > 0).then_some(())
    }

    fn read(&self, offset: u64, length: usize) -> Option<Box<[u8]>> {
        self.take(length as u64)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).ok()?;
        if length >= LARGE {
            advise(&bytes);
        }
        let file = &mut *self.file.borrow_mut();
        file.seek(SeekFrom::Start(offset)).ok()?;
        file.take(length as u64).read_to_end(&mut bytes).ok()?;
        (bytes.len() == length).then(|| bytes.into_boxed_slice())
    }

    fn read_text(&self, range: &Range<u64>, end: u8) -> Option<Box<[u8]>> {
        let most = usize::try_from(range.end - range.start).ok()?.min(MAX_TEXT);
        let mut bytes = Vec::new();
        while bytes.len() < most {
            let before = bytes.len();
            bytes.resize((before + 256).min(most), 0);
            let count = self.file.borrow().read_at(&mut bytes[before..], range.start + before as u64).ok()?;
            self.take(1)?;
            if count == 0 {
                return None;
            }
            bytes.truncate(before + count);
            if let Some(at) = memchr::memchr(end, &bytes[before..]) {
                bytes.truncate(before + at);
                return Some(bytes.into_boxed_slice());
            }
        }
        None
    }
}

impl<'a> ReadRef<'a> for &'a Pieces {
    fn len(self) -> Result<u64, ()> {
        Ok(self.length)
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size == 0 {
            return Ok(&[]);
        }
        if offset.checked_add(size).is_none_or(|end| end > self.length) {
            return Err(());
        }
        let length = usize::try_from(size).map_err(drop)?;
        self.piece(offset, Until::Length(size), || self.read(offset, length)).ok_or(())
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        if range.start > range.end || range.end > self.length {
            return Err(());
        }
        let text = self.piece(range.start, Until::Byte(delimiter), || self.read_text(&range, delimiter)).ok_or(())?;
        // It may have been read for a wider range.
        if (text.len() as u64) < range.end - range.start { Ok(text) } else { Err(()) }
    }
}

/// The chain that a piece hangs in.
fn chain(offset: u64, until: Until) -> usize {
    let length = match until {
        Until::Length(length) => length,
        Until::Byte(byte) => u64::from(byte),
    };
    let mixed = offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ length.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as usize % CHAINS
}

/// Asks for large pages under a buffer that is about to be filled.
#[expect(unsafe_code, reason = "advice about memory that a buffer owns")]
fn advise(buffer: &Vec<u8>) {
    const PAGE: usize = 4096;
    let start = buffer.as_ptr().addr().next_multiple_of(PAGE);
    let end = (buffer.as_ptr().addr() + buffer.capacity()) & !(PAGE - 1);
    if start < end {
        // SAFETY: the pages lie wholly within the buffer's memory, and advice changes neither contents nor access. If it
        // is refused, pages are small.
        unsafe {
            libc::madvise(buffer.as_ptr().with_addr(start).cast_mut().cast(), end - start, libc::MADV_HUGEPAGE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of these bytes without a name.
    fn pieces(bytes: &[u8]) -> Pieces {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        Pieces::new(file)
    }

    #[test]
    fn pieces_are_what_the_file_has() {
        let bytes: Vec<u8> = (0..9u32 << 20).map(|at| (at % 251) as u8 + 1).chain([0]).collect();
        let pieces = pieces(&bytes);
        let length = bytes.len() as u64;
        assert_eq!((&pieces).len(), Ok(length));
        for (offset, size) in [(0, 16), (0, 16), (0, length), (77, 5 << 20), (length - 1, 1), (3000, 0)] {
            assert!((&pieces).read_bytes_at(offset, size) == Ok(&bytes[offset as usize..][..size as usize]));
        }
        for (offset, size) in [(length, 1), (0, length + 1), (u64::MAX, 2), (1, u64::MAX)] {
            assert!((&pieces).read_bytes_at(offset, size).is_err());
        }
        let text = |start, end, until| (&pieces).read_bytes_at_until(start..end, until);
        assert_eq!(text(10, length, 14), Ok(&[11, 12, 13][..]));
        assert_eq!((text(10, 13, 14), text(13, 10, 14), text(0, length + 1, 9)), (Err(()), Err(()), Err(())));
        // The end of a text is not looked for beyond its longest.
        assert_eq!(text(0, length, 0), Err(()));
        assert_eq!(text(length - 4000, length, 0).unwrap().len(), 3999);
    }

    #[test]
    fn pieces_end() {
        let pieces = pieces(&vec![7; 1 << 20]);
        let read = (0..1000).take_while(|&at| (&pieces).read_bytes_at(at, (1 << 20) - 1000).is_ok()).count();
        assert_eq!(read, 68);
        assert!((&pieces).read_bytes_at(5, 2000).is_err());
    }
}
