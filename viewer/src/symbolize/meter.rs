//! What reading one module's debug information may cost: steps through it, and depth.
//!
//! The decoders of ELF and DWARF check what they read, but a short file may ask for endless work all the same: ranges
//! that every function refers to, a line program that every unit shares, a note section for each offset, inlined calls
//! nested a million deep. So all that they read comes through here, and past a limit the file seems to end.

use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use gimli::{EndianSlice, Error, Reader, ReaderOffsetId, RunTimeEndian};

/// Steps that any module is granted. One makes up to 80 bytes in memory, a row of a line table while its list grows.
const STEPS: u64 = 3 << 20;
/// Bytes that are searched for the end of a text in one step.
const SEARCHED: u64 = 64;
/// Bytes of stack that nested debug information may take. A level takes less than 1 KiB, and compilers nest inlined calls
/// some dozen levels deep.
const DEPTH: usize = 2 << 20;

/// Steps that a thread takes from its module's at once.
const SHARE: u64 = 1 << 16;
/// Which limit was met.
const NONE: u8 = 0;
const WORK: u8 = 1;
const DEEP: u8 = 2;

/// How much more may be read of a module's debug information, on all threads that read it.
#[derive(Debug)]
pub struct Budget {
    steps_left: AtomicU64,
    exceeded: AtomicU8,
}

impl Budget {
    /// For debug information of so many bytes. Each of them is read once as a rule, several in one step.
    pub fn new(bytes: u64) -> Self {
        let steps = STEPS.saturating_add(bytes.saturating_mul(2));
        Self { steps_left: AtomicU64::new(steps), exceeded: AtomicU8::new(NONE) }
    }

    /// Which limit was met, if one was.
    pub fn exceeded(&self) -> Option<&'static str> {
        match self.exceeded.load(Ordering::Relaxed) {
            WORK => Some("it asks for too much work"),
            DEEP => Some("it is nested too deeply"),
            _ => None,
        }
    }

    /// For bytes that are read besides.
    pub fn add(&self, bytes: u64) {
        if self.exceeded.load(Ordering::Relaxed) == NONE {
            self.steps_left.fetch_add(bytes.saturating_mul(2), Ordering::Relaxed);
        }
    }

    /// At least so many steps if there are, and [`SHARE`] at the most if that is more.
    fn take(&self, steps: u64) -> u64 {
        let mut taken = 0;
        let _ = self.steps_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            taken = left.min(steps.max(SHARE));
            Some(left - taken)
        });
        taken
    }
}

/// A thread's part of a [`Budget`].
#[derive(Debug)]
pub struct Meter<'b> {
    budget: &'b Budget,
    /// Taken from the budget, and not used yet.
    steps_left: Cell<u64>,
    /// Address below which the stack must not grow.
    lowest: usize,
}

impl<'b> Meter<'b> {
    /// For the thread that makes it.
    pub fn new(budget: &'b Budget) -> Self {
        Self { budget, steps_left: Cell::new(0), lowest: stack_pointer().saturating_sub(DEPTH) }
    }

    /// Counts steps that are about to be made.
    ///
    /// # Errors
    /// There are none left, or the stack has grown too far.
    #[inline]
    pub fn charge(&self, steps: u64) -> Result<(), Error> {
        match self.steps_left.get().checked_sub(steps) {
            Some(left) if stack_pointer() >= self.lowest => {
                self.steps_left.set(left);
                Ok(())
            }
            left => self.refill(steps, left.is_some()),
        }
    }

    #[cold]
    fn refill(&self, steps: u64, deep: bool) -> Result<(), Error> {
        if !deep {
            let have = self.steps_left.get();
            let have = have.saturating_add(self.budget.take(steps - have));
            self.steps_left.set(have);
            if have >= steps {
                return self.charge(steps);
            }
        }
        Err(self.refuse(deep))
    }

    /// How much of so many bytes may be searched.
    #[inline]
    fn searchable(&self, length: usize) -> usize {
        let shared = self.budget.steps_left.load(Ordering::Relaxed);
        let most = self.steps_left.get().saturating_add(shared).saturating_mul(SEARCHED);
        usize::try_from(most).map_or(length, |most| most.min(length))
    }

    #[cold]
    fn refuse(&self, deep: bool) -> Error {
        if !deep {
            // What is left is too little for this reading, and must not be spent again on each one that follows.
            self.steps_left.set(0);
            self.budget.steps_left.store(0, Ordering::Relaxed);
        }
        self.budget.exceeded.store(if deep { DEEP } else { WORK }, Ordering::Relaxed);
        Error::UnexpectedEof(ReaderOffsetId(0))
    }
}

/// What a thread has not used is for others.
impl Drop for Meter<'_> {
    fn drop(&mut self) {
        if self.budget.exceeded.load(Ordering::Relaxed) != WORK {
            self.budget.steps_left.fetch_add(self.steps_left.get(), Ordering::Relaxed);
        }
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
pub struct Metered<'a, 'm> {
    slice: EndianSlice<'a, RunTimeEndian>,
    meter: &'m Meter<'m>,
}

impl<'a, 'm> Metered<'a, 'm> {
    /// All of a section.
    pub fn new(bytes: &'a [u8], endian: RunTimeEndian, meter: &'m Meter<'m>) -> Self {
        Self { slice: EndianSlice::new(bytes, endian), meter }
    }

    /// What it is a piece of, as far as it reaches, for as long as that is there.
    pub fn bytes(&self) -> &'a [u8] {
        self.slice.slice()
    }
}

impl Reader for Metered<'_, '_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end() {
        let budget = Budget::new(0);
        let meter = Meter::new(&budget);
        let bytes = vec![1; 100];
        let mut reader = Metered::new(&bytes, RunTimeEndian::Little, &meter);
        for _ in 0..STEPS {
            let mut copy = reader;
            assert_eq!(copy.read_u8(), Ok(1));
        }
        assert_eq!(budget.exceeded(), None);
        assert!(reader.read_u8().is_err());
        assert_eq!(budget.exceeded(), Some("it asks for too much work"));
    }

    #[test]
    fn threads_share() {
        let budget = Budget::new(0);
        let spent = |steps: u64| {
            let meter = Meter::new(&budget);
            (0..steps).take_while(|_| meter.charge(1).is_ok()).count() as u64
        };
        // What one leaves the next ones have.
        let all: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| spent(SHARE + 1))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((all, budget.exceeded()), (4 * (SHARE + 1), None));
        assert_eq!(spent(STEPS), STEPS - all);
        assert_eq!(budget.exceeded(), Some("it asks for too much work"));
        // Nothing is granted any more.
        budget.add(1 << 30);
        assert_eq!(spent(1), 0);
    }

    #[test]
    fn a_long_search_is_many_steps() {
        let bytes = vec![1; 64 << 20];
        let budget = Budget::new(0);
        let meter = Meter::new(&budget);
        let reader = Metered::new(&bytes, RunTimeEndian::Little, &meter);
        for _ in 0..3 {
            let _ = Reader::find(&reader, 0);
        }
        assert_eq!(budget.exceeded(), Some("it asks for too much work"));
        // Nothing is searched any more.
        assert_eq!((meter.searchable(bytes.len()), meter.charge(1).is_err()), (0, true));
    }

    #[test]
    fn depth_ends() {
        fn down(reader: Metered<'_, '_>, level: u32) -> u32 {
            let mut copy = reader;
            let room = [level; 256];
            if copy.read_u8().is_err() { level } else { down(reader, level + 1).max(std::hint::black_box(room)[7]) }
        }
        // A test's own thread has as much stack as the limit is.
        let thread = std::thread::Builder::new().stack_size(4 * DEPTH).spawn(|| {
            let budget = Budget::new(1 << 40);
            let meter = Meter::new(&budget);
            let reached = down(Metered::new(&[1], RunTimeEndian::Little, &meter), 0);
            (reached, budget.exceeded())
        });
        let (reached, exceeded) = thread.unwrap().join().unwrap();
        assert!((100..2100).contains(&reached), "{reached}");
        assert_eq!(exceeded, Some("it is nested too deeply"));
    }
}
