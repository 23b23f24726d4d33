//! What a control name is, and how its handler reads and writes the caller's buffers.
//!
//! The rules are jemalloc's: a write needs exactly the type's size (`EINVAL`), a read into a buffer of another size
//! copies what fits, stores that length and answers `EINVAL`; what can't be read or written answers `EPERM`.

use core::ffi::{CStr, c_char};

use crate::conf;
use crate::message::Decimal;
use crate::pages::hooks::ExtentHooks;

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
    as_text: Option<AsText<'a>>,
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
pub unsafe trait Plain: Copy {
    /// Writes the value as text; `false`: there is no text for it.
    fn to_text(self, _out: &mut dyn FnMut(&[u8])) -> bool {
        false
    }

    /// The value that a text stands for. `None`: none, or the type can't be written as text.
    fn from_text(_text: &CStr) -> Option<Self> {
        None
    }
}

macro_rules! numbers {
    (unsigned $($unsigned:ty)* ; signed $($signed:ty)*) => {$(
        // SAFETY: a plain integer.
        unsafe impl Plain for $unsigned {
            fn to_text(self, out: &mut dyn FnMut(&[u8])) -> bool {
                out(Decimal::new(self as u64).as_bytes());
                true
            }

            fn from_text(text: &CStr) -> Option<Self> {
                conf::bytes(text.to_bytes())?.try_into().ok()
            }
        }
    )*$(
        // SAFETY: a plain integer.
        unsafe impl Plain for $signed {
            fn to_text(self, out: &mut dyn FnMut(&[u8])) -> bool {
                if self < 0 {
                    out(b"-");
                }
                out(Decimal::new(self.unsigned_abs() as u64).as_bytes());
                true
            }

            fn from_text(text: &CStr) -> Option<Self> {
                conf::signed(text.to_bytes())?.try_into().ok()
            }
        }
    )*};
}
numbers!(unsigned u8 u32 u64 usize; signed i64 isize);

// SAFETY: plain numbers.
unsafe impl Plain for [usize; 6] {}

// SAFETY: a plain pointer, to a C string. ([`Call::read_text`] gives one as text.)
unsafe impl Plain for *const c_char {
    fn from_text(text: &CStr) -> Option<Self> {
        Some(text.as_ptr())
    }
}

/// Pointers to what only the process itself can use: shown as numbers, and not read from texts, in which they could not be
/// trusted.
macro_rules! addresses {
    ($($pointer:ty)*) => {$(
        // SAFETY: a plain pointer.
        unsafe impl Plain for $pointer {
            fn to_text(self, out: &mut dyn FnMut(&[u8])) -> bool {
                out(b"0x");
                out(Decimal::hex(self.addr() as u64).as_bytes());
                true
            }
        }
    )*};
}
addresses!(*const u8 *mut u8 *const usize *mut u64 *mut ExtentHooks);

/// Takes text, piece by piece.
pub type TextSink<'a> = dyn FnMut(&[u8]) + 'a;

/// What a call reads and writes where it is made of text instead of buffers.
struct AsText<'a> {
    new: Option<&'a CStr>,
    old: Option<&'a mut TextSink<'a>>,
}

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
        Call { heap, mib, old, old_length, new, new_length, as_text: None }
    }

    /// A call whose values are text: `new` is written, and `old` gets what is read. Handlers don't see the difference; what
    /// has no text answers `EINVAL`.
    pub fn as_text(
        heap: &'static dyn HeapControl,
        mib: &'a [usize],
        new: Option<&'a CStr>,
        old: Option<&'a mut TextSink<'a>>,
    ) -> Self {
        let (none, no_length) = (core::ptr::null_mut(), core::ptr::null_mut());
        let as_text = Some(AsText { new, old });
        Call { heap, mib, old: none, old_length: no_length, new: none, new_length: 0, as_text }
    }

    /// Gives the caller a short text that may be gone after the call, where it reads text.
    /// `false`: it wants something else.
    pub fn read_passing_text(&mut self, value: &[u8]) -> bool {
        let out = self.as_text.as_mut().and_then(|text| text.old.as_mut());
        out.map(|out| out(value)).is_some()
    }

    /// The index at component `position`.
    pub fn index(&self, position: usize) -> usize {
        self.mib.get(position).copied().unwrap_or(usize::MAX)
    }

    /// Whether the caller wants to read.
    pub fn reads(&self) -> bool {
        match &self.as_text {
            Some(text) => text.old.is_some(),
            None => !self.old.is_null() && !self.old_length.is_null(),
        }
    }

    /// Whether the caller names a buffer to read into, be its length known or not.
    pub fn has_buffer(&self) -> bool {
        self.reads() || !self.old.is_null()
    }

    /// Whether the caller wants to write.
    pub fn writes(&self) -> bool {
        match &self.as_text {
            Some(text) => text.new.is_some(),
            None => !self.new.is_null(),
        }
    }

    /// Refuses a write.
    pub fn read_only(&self) -> Result<(), Code> {
        if self.writes() || self.new_length != 0 { Err(Code::EPERM) } else { Ok(()) }
    }

    /// Refuses a read.
    pub fn write_only(&self) -> Result<(), Code> {
        if self.reads() || !self.old.is_null() || !self.old_length.is_null() { Err(Code::EPERM) } else { Ok(()) }
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
        if self.old.is_null() || self.old_room() != core::mem::size_of::<T>() {
            return Err(Code::EINVAL);
        }
        // SAFETY: the caller of `mallctl` provides that many bytes; any bytes are a value of a plain type.
        Ok(unsafe { self.old.cast::<T>().read_unaligned() })
    }

    /// Refuses a call that can't take the answer, before anything is done; the length becomes 0 then.
    pub fn verify_read<T: Plain>(&mut self) -> Result<(), Code> {
        if self.reads() && (self.as_text.is_some() || self.old_room() == core::mem::size_of::<T>()) {
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
        if let Some(text) = &mut self.as_text {
            let has_text = text.old.as_mut().is_none_or(|out| value.to_text(out));
            return if has_text { Ok(()) } else { Err(Code::EINVAL) };
        }
        let bytes = (&raw const value).cast::<u8>();
        // SAFETY: `value` is alive and a plain type.
        unsafe { self.read_bytes(bytes, core::mem::size_of::<T>()) }
    }

    /// Gives the caller a C `bool`.
    pub fn read_bool(&mut self, value: bool) -> Result<(), Code> {
        if let Some(text) = &mut self.as_text {
            if let Some(out) = &mut text.old {
                out(if value { b"true" } else { b"false" });
            }
            return Ok(());
        }
        self.read(u8::from(value))
    }

    /// Gives the caller a C string that lives for ever.
    pub fn read_text(&mut self, value: &'static CStr) -> Result<(), Code> {
        if self.read_passing_text(value.to_bytes()) {
            return Ok(());
        }
        self.read(value.as_ptr())
    }

    /// # Safety
    /// `bytes` leads to `size` readable bytes.
    unsafe fn read_bytes(&mut self, bytes: *const u8, size: usize) -> Result<(), Code> {
        if self.old.is_null() || self.old_length.is_null() {
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
        if let Some(text) = &self.as_text {
            return text.new.map(|new| T::from_text(new).ok_or(Code::EINVAL)).transpose();
        }
        if self.new_length != core::mem::size_of::<T>() {
            return Err(Code::EINVAL);
        }
        // SAFETY: the caller of `mallctl` provides that many bytes; any bytes are a value of a plain type.
        Ok(Some(unsafe { self.new.cast::<T>().read_unaligned() }))
    }

    /// A C string that the caller writes by its pointer, if it does: `Some(None)` for a null pointer, or where no end comes
    /// within `longest` bytes.
    pub fn written_text(&self, longest: usize) -> Result<Option<Option<&[u8]>>, Code> {
        if let Some(AsText { new: Some(text), .. }) = &self.as_text {
            return Ok(Some(Some(text.to_bytes()).filter(|text| text.len() < longest)));
        }
        let Some(pointer) = self.written::<*const u8>()? else { return Ok(None) };
        if pointer.is_null() {
            return Ok(Some(None));
        }
        // SAFETY: the caller of `mallctl` passes a C string: what comes before its end may be read.
        let length = (0..longest).find(|&i| unsafe { *pointer.add(i) } == 0);
        // SAFETY: as above.
        Ok(Some(length.map(|length| unsafe { core::slice::from_raw_parts(pointer, length) })))
    }

    /// A C `bool` that the caller writes, if it does.
    pub fn written_bool(&self) -> Result<Option<bool>, Code> {
        if let Some(AsText { new: Some(text), .. }) = &self.as_text {
            return conf::boolean(text.to_bytes()).ok_or(Code::EINVAL).map(Some);
        }
        Ok(self.written::<u8>()?.map(|byte| byte != 0))
    }
}

/// Reads a C string that a caller passed by pointer; `None` for null.
///
/// # Safety
/// The pointer is null or a C string.
pub unsafe fn text<'a>(pointer: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_bytes())
}
