//! What reading one module may cost: bytes of the file, steps through its debug information, and depth.
//!
//! The decoders of ELF and DWARF check what they read, but a short file may ask for endless work all the same: ranges
//! that every function refers to, a line program that every unit shares, a note section for each offset, inlined calls
//! nested a million deep. So all that they read comes through here, and past a limit the file seems to end.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use gimli::{EndianSlice, Error, Reader, ReaderOffsetId, RunTimeEndian};

/// Steps that any module is granted. One makes up to 80 bytes in memory, a row of a line table while its list grows.
const STEPS: u64 = 3 << 20;
/// Bytes that are searched for the end of a text in one step.
const SEARCHED: u64 = 64;
/// Bytes of stack that nested debug information may take. A level takes less than 1 KiB, and compilers nest inlined calls
/// some dozen levels deep.
const DEPTH: usize = 2 << 20;

/// How much more may be read of a module's debug information, on the thread that made it.
#[derive(Debug)]
pub struct Meter {
    steps_left: Cell<u64>,
    /// Address below which the stack must not grow.
    lowest: usize,
    exceeded: Cell<Option<&'static str>>,
}

impl Meter {
    /// For debug information of so many bytes. Each of them is read once as a rule, several in one step.
    pub fn new(bytes: u64) -> Self {
        Self {
            steps_left: Cell::new(STEPS.saturating_add(bytes.saturating_mul(2))),
            lowest: stack_pointer().saturating_sub(DEPTH),
            exceeded: Cell::new(None),
        }
    }

    /// Which limit was met, if one was.
    pub fn exceeded(&self) -> Option<&'static str> {
        self.exceeded.get()
    }

    #[inline]
    fn charge(&self, steps: u64) -> Result<(), Error> {
        match self.steps_left.get().checked_sub(steps) {
            Some(left) if stack_pointer() >= self.lowest => {
                self.steps_left.set(left);
                Ok(())
            }
            left => Err(self.refuse(left.is_some())),
        }
    }

    /// How much of so many bytes may be searched.
    #[inline]
    fn searchable(&self, length: usize) -> usize {
        let most = self.steps_left.get().saturating_mul(SEARCHED);
        usize::try_from(most).map_or(length, |most| most.min(length))
    }

    #[cold]
    fn refuse(&self, deep: bool) -> Error {
        if !deep {
            // What is left is too little for this reading, and must not be spent again on each one that follows.
            self.steps_left.set(0);
        }
        self.exceeded.set(Some(if deep { "it is nested too deeply" } else { "it asks for too much work" }));
        Error::UnexpectedEof(ReaderOffsetId(0))
    }
}

/// About where the stack has grown to.
#[inline]
fn stack_pointer() -> usize {
    let here = 0u8;
    (&raw const here).addr()
}

/// A piece of debug information whose reader is charged for what it does.
#[derive(Clone, Copy, Debug)]
pub struct Metered<'a> {
    slice: EndianSlice<'a, RunTimeEndian>,
    meter: &'a Meter,
}

impl<'a> Metered<'a> {
    /// All of a section.
    pub fn new(bytes: &'a [u8], endian: RunTimeEndian, meter: &'a Meter) -> Self {
        Self { slice: EndianSlice::new(bytes, endian), meter }
    }
}

impl Reader for Metered<'_> {
    type Endian = RunTimeEndian;
    type Offset = usize;

    #[inline]
    fn endian(&self) -> RunTimeEndian {
        self.slice.endian()
    }

    #[inline]
    fn len(&self) -> usize {
        self.slice.len()
    }

    #[inline]
    fn is_empty(&self) -> bool {
        self.slice.is_empty()
    }

    #[inline]
    fn empty(&mut self) {
        self.slice.empty();
    }

    #[inline]
    fn truncate(&mut self, len: usize) -> Result<(), Error> {
        self.slice.truncate(len)
    }

    #[inline]
    fn offset_from(&self, base: &Self) -> usize {
        self.slice.offset_from(base.slice)
    }

    #[inline]
    fn offset_id(&self) -> ReaderOffsetId {
        self.slice.offset_id()
    }

    #[inline]
    fn lookup_offset_id(&self, id: ReaderOffsetId) -> Option<usize> {
        self.slice.lookup_offset_id(id)
    }

    #[inline]
    fn find(&self, byte: u8) -> Result<usize, Error> {
        let length = self.meter.searchable(self.slice.len());
        let found = memchr::memchr(byte, &self.slice.slice()[..length]);
        self.meter.charge(1 + found.unwrap_or(length) as u64 / SEARCHED)?;
        match found {
            None if length < self.slice.len() => Err(self.meter.refuse(false)),
            None => Err(Error::UnexpectedEof(self.slice.offset_id())),
            Some(at) => Ok(at),
        }
    }

    #[inline]
    fn skip(&mut self, len: usize) -> Result<(), Error> {
        self.meter.charge(1)?;
        self.slice.skip(len)
    }

    #[inline]
    fn split(&mut self, len: usize) -> Result<Self, Error> {
        self.meter.charge(1)?;
        Ok(Self { slice: self.slice.split(len)?, meter: self.meter })
    }

    #[inline]
    fn to_slice(&self) -> Result<Cow<'_, [u8]>, Error> {
        self.slice.to_slice()
    }

    #[inline]
    fn to_string(&self) -> Result<Cow<'_, str>, Error> {
        self.slice.to_string().map(Cow::Borrowed)
    }

    #[inline]
    fn to_string_lossy(&self) -> Result<Cow<'_, str>, Error> {
        Ok(self.slice.to_string_lossy())
    }

    #[inline]
    fn read_slice(&mut self, buffer: &mut [u8]) -> Result<(), Error> {
        self.meter.charge(1)?;
        Reader::read_slice(&mut self.slice, buffer)
    }

    #[inline]
    fn read_u8(&mut self) -> Result<u8, Error> {
        self.meter.charge(1)?;
        self.slice.read_u8()
    }
}

/// A file whose pieces stay in memory, and that ends early when they have become too many.
#[derive(Debug)]
pub struct Bounded {
    file: File,
    /// Bytes in pieces that may still be read.
    left: u64,
}

impl Bounded {
    /// Pieces overlap a little: headers, notes and tables are parts of sections that are read whole.
    pub fn new(file: File) -> Self {
        const LEAST: u64 = 64 << 20;
        let length = file.metadata().map_or(0, |found| found.len());
        Self { file, left: length.saturating_mul(4).saturating_add(LEAST) }
    }
}

impl Read for Bounded {
    /// Of texts, which are short: cut at the length that the cache allows, and kept without what follows.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }

    /// Of pieces.
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.left = self.left.saturating_sub(buffer.len() as u64);
        if self.left == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.file.read_exact(buffer)
    }
}

impl Seek for Bounded {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if self.left == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end() {
        let meter = Meter::new(0);
        let bytes = vec![1; 100];
        let mut reader = Metered::new(&bytes, RunTimeEndian::Little, &meter);
        for _ in 0..STEPS {
            let mut copy = reader;
            assert_eq!(copy.read_u8(), Ok(1));
        }
        assert_eq!(meter.exceeded(), None);
        assert!(reader.read_u8().is_err());
        assert_eq!(meter.exceeded(), Some("it asks for too much work"));
    }

    #[test]
    fn a_long_search_is_many_steps() {
        let bytes = vec![1; 64 << 20];
        let meter = Meter::new(0);
        let reader = Metered::new(&bytes, RunTimeEndian::Little, &meter);
        for _ in 0..3 {
            let _ = Reader::find(&reader, 0);
        }
        assert_eq!(meter.exceeded(), Some("it asks for too much work"));
        // Nothing is searched any more.
        assert_eq!((meter.searchable(bytes.len()), meter.charge(1).is_err()), (0, true));
    }

    #[test]
    fn depth_ends() {
        fn down(reader: Metered<'_>, level: u32) -> u32 {
            let mut copy = reader;
            let room = [level; 256];
            if copy.read_u8().is_err() { level } else { down(reader, level + 1).max(std::hint::black_box(room)[7]) }
        }
        // A test's own thread has as much stack as the limit is.
        let thread = std::thread::Builder::new().stack_size(4 * DEPTH).spawn(|| {
            let meter = Meter::new(1 << 40);
            let reached = down(Metered::new(&[1], RunTimeEndian::Little, &meter), 0);
            (reached, meter.exceeded())
        });
        let (reached, exceeded) = thread.unwrap().join().unwrap();
        assert!((100..2100).contains(&reached), "{reached}");
        assert_eq!(exceeded, Some("it is nested too deeply"));
    }

    #[test]
    fn pieces_of_a_file_end() {
        let path = std::env::temp_dir().join(format!("bounded-{}", std::process::id()));
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let mut file = Bounded::new(File::open(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        let mut piece = vec![0; 1 << 20];
        let read = (0..1000).take_while(|_| file.rewind().is_ok() && file.read_exact(&mut piece).is_ok()).count();
        assert_eq!(read, 67);
    }
}
