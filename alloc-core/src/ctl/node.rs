//! What a control name is, and how its handler reads and writes the caller's buffers.
//!
//! The rules are jemalloc's: a write needs exactly the type's size (`EINVAL`), a read into a buffer of another size
//! copies what fits, stores that length and answers `EINVAL`; what can't be read or written answers `EPERM`.

use super::control::HeapControl;

/// An answer that isn't success: an error number of C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub i32);

impl Code {
    /// Not permitted: reading what can only be written, or the other way round.
    pub const EPERM: Code = Code(1);
    /// No such name, index or feature.
    pub const ENOENT: Code = Code(2);
    /// Not now: no memory for it.
    pub const EAGAIN: Code = Code(11);
    /// The action failed.
    pub const EFAULT: Code = Code(14);
    /// A size or a value is wrong.
    pub const EINVAL: Code = Code(22);
}

/// Reads and writes what a name stands for.
pub type Handler = fn(&mut Call<'_>) -> Result<(), Code>;

/// A control name and what it does.
#[derive(Clone, Copy)]
pub struct Node {
    /// Components joined by dots; `<i>` stands for an index.
    pub name: &'static str,
    /// Reads and writes.
    pub handler: Handler,
}

impl core::fmt::Debug for Node {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}

/// One `mallctl` call.
pub struct Call<'a> {
    /// The heap.
    pub heap: &'static dyn HeapControl,
    /// The components as numbers; where the name has `<i>`, the index itself.
    pub mib: &'a [usize],
    pub(super) old: *mut u8,
    pub(super) old_length: *mut usize,
    pub(super) new: *const u8,
    pub(super) new_length: usize,
}

impl core::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Call").field("mib", &self.mib).finish_non_exhaustive()
    }
}

/// Types that travel through a control buffer as their bytes.
///
/// # Safety
/// Any bytes of the type's size are a valid value, and it has no padding. (`bool` is handled apart.)
pub unsafe trait Plain: Copy {}
// SAFETY: plain integers and pointers.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for usize {}
// SAFETY: as above.
unsafe impl Plain for isize {}
// SAFETY: as above.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for [usize; 6] {}
// SAFETY: as above.
unsafe impl<T> Plain for *const T {}
// SAFETY: as above.
unsafe impl<T> Plain for *mut T {}

impl<'a> Call<'a> {
    /// A call with the caller's buffers.
    ///
    /// # Safety
    /// The pointers are null or lead to buffers as `mallctl` describes them, valid during the call.
    pub unsafe fn new(
        heap: &'static dyn HeapControl,
        mib: &'a [usize],
        old: *mut u8,
        old_length: *mut usize,
        new: *const u8,
        new_length: usize,
    ) -> Self {
        Call { heap, mib, old, old_length, new, new_length }
    }

    /// The index at component `position`.
    pub fn index(&self, position: usize) -> usize {
        self.mib.get(position).copied().unwrap_or(usize::MAX)
    }

    /// Whether the caller wants to read.
    pub fn reads(&self) -> bool {
        !self.old.is_null() && !self.old_length.is_null()
    }

    /// Whether the caller wants to write.
    pub fn writes(&self) -> bool {
        !self.new.is_null()
    }

    /// Refuses a write.
    pub fn read_only(&self) -> Result<(), Code> {
        if self.writes() || self.new_length != 0 { Err(Code::EPERM) } else { Ok(()) }
    }

    /// Refuses a read.
    pub fn write_only(&self) -> Result<(), Code> {
        if !self.old.is_null() || !self.old_length.is_null() { Err(Code::EPERM) } else { Ok(()) }
    }

    /// Refuses reading and writing: the name is an action.
    pub fn void(&self) -> Result<(), Code> {
        self.read_only()?;
        self.write_only()
    }

    /// Refuses reading and writing in one call.
    pub fn read_xor_write(&self) -> Result<(), Code> {
        if self.reads() && (self.writes() || self.new_length != 0) { Err(Code::EPERM) } else { Ok(()) }
    }

    /// The length of the caller's buffer; there is one.
    pub fn old_room(&self) -> usize {
        // SAFETY: the caller of `mallctl` provides the length with the buffer.
        if self.old_length.is_null() { 0 } else { unsafe { *self.old_length } }
    }

    /// What lies in the caller's buffer, for names that find there where to write.
    pub fn old_value<T: Plain>(&self) -> Result<T, Code> {
        if !self.reads() || self.old_room() != core::mem::size_of::<T>() {
            return Err(Code::EINVAL);
        }
        // SAFETY: the caller of `mallctl` provides that many bytes; any bytes are a value of a plain type.
        Ok(unsafe { self.old.cast::<T>().read_unaligned() })
    }

    /// Refuses a call that can't take the answer, before anything is done; the length becomes 0 then.
    pub fn verify_read<T: Plain>(&mut self) -> Result<(), Code> {
        if self.reads() && self.old_room() == core::mem::size_of::<T>() {
            return Ok(());
        }
        if !self.old_length.is_null() {
            // SAFETY: the caller of `mallctl` provides it.
            unsafe { *self.old_length = 0 };
        }
        Err(Code::EINVAL)
    }

    /// Gives the caller `value`, if it wants to read.
    pub fn read<T: Plain>(&mut self, value: T) -> Result<(), Code> {
        let bytes = (&raw const value).cast::<u8>();
        // SAFETY: `value` is alive and a plain type.
        unsafe { self.read_bytes(bytes, core::mem::size_of::<T>()) }
    }

    /// Gives the caller a C `bool`.
    pub fn read_bool(&mut self, value: bool) -> Result<(), Code> {
        self.read(u8::from(value))
    }

    /// Gives the caller a C string that lives for ever.
    pub fn read_text(&mut self, value: &'static core::ffi::CStr) -> Result<(), Code> {
        self.read(value.as_ptr())
    }

    /// # Safety
    /// `bytes` leads to `size` readable bytes.
    pub unsafe fn read_bytes(&mut self, bytes: *const u8, size: usize) -> Result<(), Code> {
        if !self.reads() {
            return Ok(());
        }
        // SAFETY: the caller of `mallctl` provides the buffer and its length.
        unsafe {
            let room = *self.old_length;
            let copied = room.min(size);
            self.old.copy_from_nonoverlapping(bytes, copied);
            if room != size {
                *self.old_length = copied;
                return Err(Code::EINVAL);
            }
        }
        Ok(())
    }

    /// The value that the caller writes, if it does.
    pub fn written<T: Plain>(&self) -> Result<Option<T>, Code> {
        if !self.writes() {
            return Ok(None);
        }
        if self.new_length != core::mem::size_of::<T>() {
            return Err(Code::EINVAL);
        }
        // SAFETY: the caller of `mallctl` provides that many bytes; any bytes are a value of a plain type.
        Ok(Some(unsafe { self.new.cast::<T>().read_unaligned() }))
    }

    /// A C `bool` that the caller writes, if it does.
    pub fn written_bool(&self) -> Result<Option<bool>, Code> {
        Ok(self.written::<u8>()?.map(|byte| byte != 0))
    }
}

/// Reads a C string that a caller passed by pointer; `None` for null.
///
/// # Safety
/// The pointer is null or a C string.
pub unsafe fn text<'a>(pointer: *const core::ffi::c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { core::ffi::CStr::from_ptr(pointer) }.to_bytes())
}
