//! Thread names, each kept once.

use core::ffi::CStr;

use alloc_core::ThreadSlot;
use alloc_core::lock::{Counts, Mutex, Rank};
use alloc_core::sys::{extra, sandbox};

use crate::sampler::{choice, word};

/// Most names; later ones share number 0, "other threads".
const NAMES_MAX: usize = 1024;

/// A name as the kernel keeps it, zero padded.
pub type Name = [u8; 16];

#[derive(Debug)]
struct Inner {
    names: [Name; NAMES_MAX],
    count: usize,
}

/// The names.
#[derive(Debug)]
pub struct Names {
    inner: Mutex<Inner>,
}

const OTHER: Name = *b"(other threads)\0";

impl Names {
    /// Only number 0.
    pub const fn new() -> Self {
        let mut names = [[0; 16]; NAMES_MAX];
        names[0] = OTHER;
        Names { inner: Mutex::new(Rank::Stacks, Inner { names, count: 1 }) }
    }

    /// Asks for the calling thread's present name, unless the program has chosen one or is in a sandbox.
    #[inline(never)]
    pub fn refresh(&self, slot: &mut ThreadSlot) {
        if slot.words[word::CHOICES] & choice::NAMED == 0 && !sandbox::in_sandbox() {
            slot.words[word::NAME_ID] = self.intern(extra::thread_name()) as usize + 1;
        }
    }

    /// The number of the name that was found last.
    pub fn current(slot: &ThreadSlot) -> u16 {
        slot.words[word::NAME_ID].saturating_sub(1) as u16
    }

    /// Gives the calling thread a name of the program's choice.
    pub fn set(&self, slot: &mut ThreadSlot, name: Name) {
        slot.words[word::NAME_ID] = self.intern(name) as usize + 1;
        slot.words[word::CHOICES] |= choice::NAMED;
    }

    /// The name that the program has chosen for the calling thread, zero terminated, for ever in place.
    pub fn chosen(&'static self, slot: &ThreadSlot) -> &'static CStr {
        if slot.words[word::CHOICES] & choice::NAMED == 0 { c"" } else { self.text(slot) }
    }

    /// The calling thread's name as it is now, in the same way.
    pub fn present(&'static self, slot: &mut ThreadSlot) -> &'static CStr {
        self.refresh(slot);
        self.text(slot)
    }

    /// The name that was found last; none where none has been looked for.
    fn text(&'static self, slot: &ThreadSlot) -> &'static CStr {
        let Some(id) = slot.words[word::NAME_ID].checked_sub(1) else { return c"" };
        let inner = self.inner.lock();
        let name: *const Name = &raw const inner.names[id];
        // SAFETY: a name that has a number keeps its place and never changes, and the table is static.
        CStr::from_bytes_until_nul(unsafe { &*name }).unwrap_or(c"")
    }

    fn intern(&self, name: Name) -> u16 {
        let mut inner = self.inner.lock();
        let count = inner.count;
        if let Some(known) = inner.names[1..count].iter().position(|n| *n == name) {
            return known as u16 + 1;
        }
        if count == NAMES_MAX {
            return 0;
        }
        inner.names[count] = name;
        inner.count += 1;
        count as u16
    }

    /// The name of a number.
    pub fn get(&self, id: u16) -> Name {
        self.inner.lock().names.get(usize::from(id)).copied().unwrap_or(OTHER)
    }

    /// What the lock has seen.
    pub fn lock_counts(&self) -> Counts {
        self.inner.counts()
    }

    /// Has it count afresh.
    pub fn reset_lock_counts(&self) {
        self.inner.reset_counts();
    }

    /// In the child of a fork: a name is complete before it is counted.
    pub fn after_fork(&self) {
        self.inner.after_fork(|_| {});
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_for_each_name() {
        static NAMES: Names = Names::new();
        let mut slot = ThreadSlot { uid: 1, words: [0; 7] };
        NAMES.refresh(&mut slot);
        let own = Names::current(&slot);
        assert_eq!(NAMES.get(own), extra::thread_name());
        NAMES.refresh(&mut slot);
        assert_eq!(Names::current(&slot), own);
        assert_eq!(NAMES.chosen(&slot), c"");
        assert_eq!(NAMES.present(&mut slot), CStr::from_bytes_until_nul(&extra::thread_name()).unwrap());
        NAMES.set(&mut slot, *b"chosen\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(NAMES.chosen(&slot), c"chosen");
        assert_eq!(NAMES.present(&mut slot), c"chosen");
        NAMES.refresh(&mut slot);
        assert_eq!(NAMES.get(Names::current(&slot))[..7], *b"chosen\0");
        for i in 0..2 * NAMES_MAX {
            let mut name = [0; 16];
            name[..8].copy_from_slice(&(i as u64 + 1).to_le_bytes());
            NAMES.set(&mut slot, name);
        }
        assert_eq!(NAMES.get(Names::current(&slot)), OTHER);
    }
}
