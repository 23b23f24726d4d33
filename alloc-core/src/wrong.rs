//! What is said of a block that is used wrongly: freed twice, freed by another address than its own, and the like.
//!
//! A check that fails makes a [`Wrong`], which is told once no lock is held: by the program's own function where it has
//! set one (`experimental.hooks.safety_check_abort`), else by one line and the end of the process. Nothing here
//! allocates.
//!
//! In the checked mode (`safety_check:true`) nothing is cached, so that the bitmaps of slabs tell at each free what is in
//! use, and what is freed is filled with [`JUNK`], so that a write after the free is found when the memory is handed out
//! again.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::heap::Heap;
use crate::message::{self, Decimal};
use crate::observer::Observer;
use crate::size;

/// What freed memory is filled with, where it is.
pub(crate) const JUNK: u8 = 0x5a;

/// Whether everything is checked.
static CHECKED: AtomicBool = AtomicBool::new(false);

/// Whether everything is checked: `safety_check:true`.
#[inline]
pub(crate) fn is_checked() -> bool {
    CHECKED.load(Ordering::Relaxed)
}

/// Has everything checked. Only while the heap boots: blocks that were freed before would be taken for written to.
pub(crate) fn check_everything() {
    CHECKED.store(true, Ordering::Relaxed);
}

/// Fills memory that is free from here on.
///
/// # Safety
/// It is the caller's, and nobody uses it.
pub(crate) unsafe fn spoil(memory: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { memory.write_bytes(JUNK, bytes) };
}

/// The first byte of a block that [`spoil`] has filled and somebody has written to since.
///
/// # Safety
/// The block is the caller's.
unsafe fn first_written(block: *const u8, bytes: usize) -> Option<usize> {
    // SAFETY: the caller's promise.
    let memory = unsafe { core::slice::from_raw_parts(block, bytes) };
    memory.iter().position(|&byte| byte != JUNK)
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No block of this heap is in use there.
    Foreign,
    /// The block is free already; its bytes, 0: not known.
    Free(usize),
    /// The address lies inside of a block: the block's address and bytes.
    Inside(usize, usize),
    /// It was said to have been asked for with such a size and alignment, which blocks of its bytes are not for.
    Size { size: usize, align: usize, bytes: usize },
    /// The block of so many bytes was written to after it had been freed, the first time at that address.
    Written(usize, usize),
}

/// A block that is used wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The address that was given.
    pub(crate) address: usize,
    pub(crate) kind: Kind,
}

impl Wrong {
    /// Something wrong with `address`.
    pub(crate) fn new(address: usize, kind: Kind) -> Self {
        Wrong { address, kind }
    }

    /// Says what `call` (the name of what was asked for) got, and ends the process. Returns only where the program has
    /// set a function of its own that does; then the block is to be left alone.
    #[cold]
    pub(crate) fn tell(self, call: &[u8]) {
        self.tell_more(call, &|| {});
    }

    /// As [`Wrong::tell`]; `more` says more before the process ends.
    #[cold]
    #[inline(never)]
    fn tell_more(self, call: &[u8], more: &dyn Fn()) {
        let address = Decimal::hex(self.address as u64);
        let address = address.as_bytes();
        let safety_check_failed = |parts: &[&[u8]]| message::safety_check_failed(parts, more);
        let twice: &[u8] = if call == b"free" { b"double " } else { b"" };
        match self.kind {
            Kind::Foreign => {
                safety_check_failed(&[call, b" of 0x", address, b", which is not a block in use of this heap"]);
            }
            Kind::Free(0) => safety_check_failed(&[twice, call, b" of 0x", address, b", which is free already"]),
            Kind::Free(bytes) => {
                let bytes = Decimal::new(bytes as u64);
                let bytes = bytes.as_bytes();
                safety_check_failed(&[
                    twice,
                    call,
                    b" of 0x",
                    address,
                    b", a block of ",
                    bytes,
                    b" bytes that is free already",
                ]);
            }
            Kind::Inside(block, bytes) => {
                let (block, bytes) = (Decimal::hex(block as u64), Decimal::new(bytes as u64));
                let (block, bytes) = (block.as_bytes(), bytes.as_bytes());
                let inside: &[u8] = b", which is inside of a block of ";
                safety_check_failed(&[call, b" of 0x", address, inside, bytes, b" bytes at 0x", block]);
            }
            Kind::Size { size, align, bytes } => {
                let [size, align, bytes] = [size, align, bytes].map(|number| Decimal::new(number as u64));
                let (size, align, bytes) = (size.as_bytes(), align.as_bytes(), bytes.as_bytes());
                let said: &[u8] = b", said to be of size ";
                let block: &[u8] = b", but it is a block of ";
                safety_check_failed(&[
                    call,
                    b" of 0x",
                    address,
                    said,
                    size,
                    b" and alignment ",
                    align,
                    block,
                    bytes,
                    b" bytes",
                ]);
            }
            Kind::Written(bytes, at) => {
                let (bytes, at) = (Decimal::new(bytes as u64), Decimal::hex(at as u64));
                let block: &[u8] = b", in a free block of ";
                safety_check_failed(&[
                    b"write after free at 0x",
                    at.as_bytes(),
                    block,
                    bytes.as_bytes(),
                    b" bytes at 0x",
                    address,
                ]);
            }
        }
    }
}

impl<O: Observer> Heap<O> {
    /// As [`Wrong::tell`], with what the observer knows of the block.
    #[cold]
    pub(crate) fn tell(&'static self, wrong: Wrong, call: &[u8]) {
        let block = if let Kind::Inside(block, _) = wrong.kind { block } else { wrong.address };
        wrong.tell_more(call, &|| self.observer.tell_history(block));
    }

    /// In the checked mode: whether a block is as it was left by its free; if not, that is told.
    ///
    /// # Safety
    /// The block, of a slab, has just been taken out of it.
    #[cold]
    pub(crate) unsafe fn check_untouched(&'static self, block: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise.
        if let Some(at) = unsafe { first_written(block, bytes) } {
            Wrong::new(block.addr(), Kind::Written(bytes, block.addr() + at)).tell(b"malloc");
        }
    }

    /// What a free says of the block's size and alignment, against the block's usable bytes.
    pub(crate) fn check_size(said: Option<(usize, usize)>, bytes: usize) -> Result<(), Kind> {
        match said {
            Some((size, align)) if size::usable_size_for(size, align) != bytes => {
                Err(Kind::Size { size, align, bytes })
            }
            _ => Ok(()),
        }
    }
}
