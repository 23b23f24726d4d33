//! The profiler's options, as configured and as changed since.

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, AtomicIsize, AtomicU8, AtomicU32, AtomicU64, Ordering};

use alloc_core::OptionVerdict;
use alloc_core::conf::{boolean, bytes, clipped, signed};
use alloc_core::lock::{Mutex, Rank};

use crate::control;
use crate::kind::Format;
use crate::triggers::Triggers;
use crate::unwind::Method;

/// Bytes of a path that an option or `prof.prefix` holds, the zero byte included.
pub const PATH_BYTES: usize = 1024;
/// Most frames that are kept of a stack.
pub const DEPTH_MAX: u32 = 512;

/// A path in place, zero terminated.
#[derive(Clone, Copy)]
pub struct Path {
    bytes: [u8; PATH_BYTES],
    length: usize,
}

impl core::fmt::Debug for Path {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", core::str::from_utf8(self.as_bytes()))
    }
}

impl Path {
    /// A short constant.
    pub const fn from_const(text: &[u8]) -> Self {
        let mut bytes = [0; PATH_BYTES];
        let mut i = 0;
        while i < text.len() {
            bytes[i] = text[i];
            i += 1;
        }
        Path { bytes, length: text.len() }
    }

    /// `text`, if it is short enough and holds no zero byte.
    pub fn new(text: &[u8]) -> Option<Self> {
        if text.len() >= PATH_BYTES || text.contains(&0) {
            return None;
        }
        let mut path = Path { bytes: [0; PATH_BYTES], length: text.len() };
        path.bytes[..text.len()].copy_from_slice(text);
        Some(path)
    }

    /// The bytes without the zero.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// With the zero.
    pub fn as_c_str(&self) -> &CStr {
        // The byte after the last one is always zero.
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    /// Appends `text`. `false`: no room, nothing is appended.
    pub fn push(&mut self, text: &[u8]) -> bool {
        let room = self.length + text.len() < PATH_BYTES && !text.contains(&0);
        if room {
            self.bytes[self.length..][..text.len()].copy_from_slice(text);
            self.length += text.len();
        }
        room
    }
}

/// The options as configured, for `opt.*`.
#[derive(Debug)]
pub struct Configured {
    /// `prof`.
    pub enabled: bool,
    /// `prof_active`.
    pub active: bool,
    /// `prof_thread_active_init`.
    pub thread_active_init: bool,
    /// Mean bytes between samples.
    pub interval: u64,
    /// Bytes between interval dumps; 0: none.
    pub dump_interval: u64,
    /// `prof_gdump`.
    pub maximum_dumps: bool,
    /// `prof_prefix`.
    pub prefix: Path,
}

/// All settings.
#[derive(Debug)]
#[repr(C)]
pub struct Settings {
    /// `prof`, `prof.enable`.
    pub enabled: AtomicBool,
    /// `prof_active`, `prof.active`.
    pub active: AtomicBool,
    /// `prof_thread_active_init`.
    pub thread_active_init: AtomicBool,
    /// `prof_unwind`.
    method: AtomicU8,
    /// `prof_bt_max`.
    pub depth: AtomicU32,
    /// Mean bytes between samples.
    pub interval: AtomicU64,
    /// A dump each so many bytes; 0: none. From `lg_prof_interval` or `prof_interval`.
    pub dump_interval: AtomicU64,
    /// `prof_final`.
    pub final_dump: AtomicBool,
    /// `prof_gdump`.
    pub maximum_dumps: AtomicBool,
    /// `prof_accum`: accepted; allocated counts are always kept.
    pub accumulate: AtomicBool,
    /// `prof_unbias`: the numbers of jemalloc's text are those from which readers make estimates.
    pub unbiased: AtomicBool,
    /// `prof_leak`.
    pub leak: AtomicBool,
    /// `prof_leak_error`.
    pub leak_error: AtomicBool,
    /// `prof_pid_namespace`.
    pub pid_namespace: AtomicBool,
    /// `prof_sys_thread_name`: programs may not name their threads by `thread.prof.name`.
    pub system_names: AtomicBool,
    /// What starts dumps by itself, and which of them are kept.
    pub triggers: Triggers,
    /// `prof_control`.
    pub control: control::Choice,
    /// `prof_peak`.
    pub peak: AtomicBool,
    /// `prof_lifetime_frees`: lifetimes are told by the stacks that free as well.
    pub lifetime_frees: AtomicBool,
    /// `prof_seed`: where the random numbers start; [`NO_SEED`]: anywhere.
    seed: AtomicU64,
    /// `prof_guard`: mean bytes between guarded blocks; 0: none is.
    pub guard: AtomicU64,
    /// `prof_log`: a log of lives from the start.
    pub log: AtomicBool,
    /// `prof_stats`.
    pub stats: AtomicBool,
    /// `prof_recent_alloc_max`.
    pub recent: AtomicIsize,
    /// `prof_time_resolution`: accepted; times are as exact as the clock either way.
    high_resolution: AtomicBool,
    /// `prof_format`: whether dumps are jemalloc's text.
    heap_v2: AtomicBool,
    /// `prof_prefix`, `prof.prefix`.
    pub prefix: Mutex<Path>,
    configured: UnsafeCell<Configured>,
}

// SAFETY: `configured` is written by `freeze` alone, before the heap is booted; all else is atomic or locked.
unsafe impl Sync for Settings {}

const NO_SEED: u64 = u64::MAX;
const PREFIX: Path = Path::from_const(b"heapsift");

impl Settings {
    /// The defaults.
    pub const fn new() -> Self {
        Settings {
            enabled: AtomicBool::new(false),
            active: AtomicBool::new(true),
            thread_active_init: AtomicBool::new(true),
            interval: AtomicU64::new(512 << 10),
            dump_interval: AtomicU64::new(0),
            final_dump: AtomicBool::new(false),
            maximum_dumps: AtomicBool::new(false),
            accumulate: AtomicBool::new(true),
            unbiased: AtomicBool::new(true),
            leak: AtomicBool::new(false),
            leak_error: AtomicBool::new(false),
            pid_namespace: AtomicBool::new(false),
            system_names: AtomicBool::new(false),
            triggers: Triggers::new(),
            control: control::Choice::new(),
            depth: AtomicU32::new(128),
            peak: AtomicBool::new(false),
            lifetime_frees: AtomicBool::new(false),
            seed: AtomicU64::new(NO_SEED),
            guard: AtomicU64::new(0),
            log: AtomicBool::new(false),
            stats: AtomicBool::new(false),
            recent: AtomicIsize::new(0),
            high_resolution: AtomicBool::new(false),
            method: AtomicU8::new(0),
            heap_v2: AtomicBool::new(false),
            prefix: Mutex::new(Rank::Stacks, PREFIX),
            configured: UnsafeCell::new(Configured {
                enabled: false,
                active: true,
                thread_active_init: true,
                interval: 512 << 10,
                dump_interval: 0,
                maximum_dumps: false,
                prefix: PREFIX,
            }),
        }
    }

    /// Does what options imply, and keeps them as they are then for [`Settings::configured`].
    ///
    /// # Safety
    /// Called once, by the one thread that boots the heap, before any other use of the settings.
    pub unsafe fn freeze(&self) {
        // SAFETY: nobody else looks yet.
        let configured = unsafe { &mut *self.configured.get() };
        let dump_interval = self.dump_interval.load(Ordering::Relaxed);
        self.imply();
        *configured = Configured {
            enabled: self.enabled.load(Ordering::Relaxed),
            active: self.active.load(Ordering::Relaxed),
            thread_active_init: self.thread_active_init.load(Ordering::Relaxed),
            interval: self.interval.load(Ordering::Relaxed),
            dump_interval,
            maximum_dumps: self.maximum_dumps.load(Ordering::Relaxed),
            prefix: *self.prefix.lock(),
        };
    }

    /// A leak that is an error is looked for, and looking for leaks takes a profile; as in jemalloc, of one that is there for
    /// nothing else no dumps are written as memory grows.
    fn imply(&self) {
        if self.leak_error.load(Ordering::Relaxed) {
            self.leak.store(true, Ordering::Relaxed);
        }
        if self.leak.load(Ordering::Relaxed) && !self.enabled.swap(true, Ordering::Relaxed) {
            self.maximum_dumps.store(false, Ordering::Relaxed);
            self.dump_interval.store(0, Ordering::Relaxed);
        }
    }

    /// The options as configured.
    pub fn configured(&self) -> &Configured {
        // SAFETY: not written any more once the heap is booted.
        unsafe { &*self.configured.get() }
    }

    /// `prof_seed`: the same samples in each run of a program that allocates the same in each run.
    pub fn seed(&self) -> Option<u64> {
        Some(self.seed.load(Ordering::Relaxed)).filter(|&seed| seed != NO_SEED)
    }

    /// How stacks are captured.
    pub fn method(&self) -> Method {
        match self.method.load(Ordering::Relaxed) {
            0 => Method::Auto,
            1 => Method::FramePointer,
            2 => Method::Dwarf,
            _ => Method::Libgcc,
        }
    }

    /// Takes an option of `MALLOC_CONF`.
    pub fn set(&self, key: &[u8], value: &[u8]) -> OptionVerdict {
        match self.set_flag(key, value) {
            OptionVerdict::Unknown => {
                self.set_value(key, value).map_or_else(|verdict| verdict, |()| OptionVerdict::Accepted)
            }
            verdict => verdict,
        }
    }

    fn set_flag(&self, key: &[u8], value: &[u8]) -> OptionVerdict {
        let flag = match key {
            b"prof" => &self.enabled,
            b"prof_active" => &self.active,
            b"prof_thread_active_init" => &self.thread_active_init,
            b"prof_final" => &self.final_dump,
            b"prof_gdump" => &self.maximum_dumps,
            b"prof_peak" => &self.peak,
            b"prof_lifetime_frees" => &self.lifetime_frees,
            b"prof_log" => &self.log,
            b"prof_stats" => &self.stats,
            b"prof_accum" => &self.accumulate,
            b"prof_unbias" => &self.unbiased,
            b"prof_leak" => &self.leak,
            b"prof_leak_error" => &self.leak_error,
            b"prof_pid_namespace" => &self.pid_namespace,
            b"prof_sys_thread_name" => &self.system_names,
            _ => return OptionVerdict::Unknown,
        };
        let Some(on) = boolean(value) else { return OptionVerdict::Invalid };
        flag.store(on, Ordering::Relaxed);
        OptionVerdict::Accepted
    }

    fn set_value(&self, key: &[u8], value: &[u8]) -> Result<(), OptionVerdict> {
        match key {
            b"lg_prof_sample" => self.set_interval(1 << clipped(value, 0, 63, true)?),
            b"prof_sample" => self.set_interval(positive_bytes(value)?),
            b"lg_prof_interval" => {
                let lg = signed(value).ok_or(OptionVerdict::Invalid)?;
                let bytes = match lg {
                    -1 => 0,
                    0..=63 => 1 << lg,
                    _ => return Err(OptionVerdict::OutOfRange),
                };
                self.dump_interval.store(bytes, Ordering::Relaxed);
            }
            b"prof_interval" => self.dump_interval.store(positive_bytes(value)?, Ordering::Relaxed),
            b"prof_seed" => self.seed.store(clipped(value, 0, NO_SEED - 1, false)?, Ordering::Relaxed),
            b"prof_guard" => {
                let bytes = bytes(value).ok_or(OptionVerdict::Invalid)?;
                if bytes > i64::MAX as u64 {
                    return Err(OptionVerdict::OutOfRange);
                }
                self.guard.store(bytes, Ordering::Relaxed);
            }
            b"prof_bt_max" => {
                let depth = clipped(value, 1, DEPTH_MAX.into(), true)?;
                self.depth.store(depth as u32, Ordering::Relaxed);
            }
            b"prof_unwind" => {
                let method = METHODS.iter().position(|name| name.to_bytes() == value).ok_or(OptionVerdict::Invalid)?;
                self.method.store(method as u8, Ordering::Relaxed);
            }
            b"prof_recent_alloc_max" => {
                let count = signed(value).ok_or(OptionVerdict::Invalid)?;
                if count < -1 {
                    return Err(OptionVerdict::OutOfRange);
                }
                self.recent.store(count as isize, Ordering::Relaxed);
            }
            b"prof_time_resolution" => {
                let at = RESOLUTIONS.iter().position(|name| name.to_bytes() == value).ok_or(OptionVerdict::Invalid)?;
                self.high_resolution.store(at == 1, Ordering::Relaxed);
            }
            b"prof_format" => {
                let format = FORMATS.iter().position(|name| name.to_bytes() == value).ok_or(OptionVerdict::Invalid)?;
                self.heap_v2.store(format == 1, Ordering::Relaxed);
            }
            b"prof_control" => {
                if !self.control.set(value) {
                    return Err(OptionVerdict::Invalid);
                }
            }
            b"prof_prefix" => *self.prefix.lock() = Path::new(value).ok_or(OptionVerdict::Invalid)?,
            _ => return self.triggers.set(key, value),
        }
        Ok(())
    }

    /// Sets the mean distance of samples; a profile can hold no more than 2^63 − 1.
    pub fn set_interval(&self, bytes: u64) {
        self.interval.store(bytes.clamp(1, i64::MAX as u64), Ordering::Relaxed);
    }

    /// How dumps are written to files.
    pub(crate) fn format(&self) -> Format {
        if self.heap_v2.load(Ordering::Relaxed) { Format::HeapV2 } else { Format::Pprof }
    }

    /// The value of `prof_time_resolution`.
    pub fn time_resolution(&self) -> &'static CStr {
        RESOLUTIONS[usize::from(self.high_resolution.load(Ordering::Relaxed))]
    }

    /// The value of `prof_format`.
    pub fn format_name(&self) -> &'static CStr {
        FORMATS[usize::from(self.heap_v2.load(Ordering::Relaxed))]
    }

    /// The value of `prof_unwind`.
    pub fn method_name(&self) -> &'static CStr {
        METHODS[usize::from(self.method.load(Ordering::Relaxed)).min(METHODS.len() - 1)]
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// Values of `prof_time_resolution`.
const RESOLUTIONS: [&CStr; 2] = [c"default", c"high"];
/// Values of `prof_format`.
const FORMATS: [&CStr; 2] = [c"pprof", c"heap_v2"];
/// Values of `prof_unwind`, in the order of [`Settings::method`].
const METHODS: [&CStr; 4] = [c"auto", c"fp", c"dwarf", c"libgcc"];

/// log2 of a number of bytes, rounded down: what jemalloc's names that speak of powers of two answer.
pub fn lg(bytes: u64) -> usize {
    // The largest interval is one less than 2^63.
    if bytes >= i64::MAX as u64 { 63 } else { bytes.max(1).ilog2() as usize }
}

fn positive_bytes(value: &[u8]) -> Result<u64, OptionVerdict> {
    match bytes(value) {
        None => Err(OptionVerdict::Invalid),
        Some(n) if n == 0 || n > i64::MAX as u64 => Err(OptionVerdict::OutOfRange),
        Some(n) => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(bytes(b"512KiB"), Some(512 << 10));
        assert_eq!(bytes(b"512K"), Some(512 << 10));
        assert_eq!(bytes(b"1000"), Some(1000));
        assert_eq!(bytes(b"2MB"), Some(2 << 20));
        assert_eq!(bytes(b"0x10"), Some(16));
        assert_eq!(bytes(b"1G"), Some(1 << 30));
        for bad in [&b""[..], b"K", b"5X", b"1.5M", b"-1", b"99999999999T"] {
            assert_eq!(bytes(bad), None);
        }
    }

    #[test]
    fn options() {
        use OptionVerdict::{Accepted, Invalid, OutOfRange, Unknown};
        let settings = Settings::new();
        for (key, value, verdict) in [
            ("prof", "yes", Invalid),
            ("prof", "true", Accepted),
            ("lg_prof_sample", "12", Accepted),
            ("lg_prof_sample", "99", Accepted),
            ("lg_prof_sample", "1k", Invalid),
            ("prof_sample", "0", OutOfRange),
            ("prof_sample", "10000000T", OutOfRange),
            ("prof_sample", "x", Invalid),
            ("prof_sample", "1000", Accepted),
            ("lg_prof_interval", "64", OutOfRange),
            ("lg_prof_interval", "-2", OutOfRange),
            ("lg_prof_interval", "-1", Accepted),
            ("lg_prof_interval", "20", Accepted),
            ("prof_seed", "18446744073709551615", OutOfRange),
            ("prof_seed", "5", Accepted),
            ("prof_guard", "9223372036854775808", OutOfRange),
            ("prof_guard", "-1", Invalid),
            ("prof_guard", "0", Accepted),
            ("prof_guard", "64KiB", Accepted),
            ("prof_bt_max", "0", Accepted),
            ("prof_unwind", "magic", Invalid),
            ("prof_unwind", "fp", Accepted),
            ("prof_lifetime_frees", "1", Invalid),
            ("prof_lifetime_frees", "true", Accepted),
            ("prof_accum", "false", Accepted),
            ("prof_accum", "1", Invalid),
            ("prof_recent_alloc_max", "-1", Accepted),
            ("prof_recent_alloc_max", "-2", OutOfRange),
            ("prof_time_resolution", "low", Invalid),
            ("prof_format", "heap_v2", Accepted),
            ("prof_nothing", "1", Unknown),
            ("foo", "bar", Unknown),
        ] {
            assert_eq!(settings.set(key.as_bytes(), value.as_bytes()), verdict, "{key}:{value}");
        }
        assert_eq!(settings.interval.load(Ordering::Relaxed), 1000);
        assert_eq!(settings.dump_interval.load(Ordering::Relaxed), 1 << 20);
        assert_eq!(settings.depth.load(Ordering::Relaxed), 1);
        assert_eq!(settings.seed(), Some(5));
        assert_eq!(settings.method(), Method::FramePointer);
        settings.set(b"lg_prof_sample", b"99");
        assert_eq!(lg(settings.interval.load(Ordering::Relaxed)), 63);
    }

    #[test]
    fn paths() {
        assert!(Path::new(&[b'x'; PATH_BYTES]).is_none() && Path::new(b"a\0b").is_none());
        let mut path = Path::new(b"/tmp/").unwrap();
        assert!(path.push(b"heap") && !path.push(&[b'x'; PATH_BYTES]));
        assert_eq!(path.as_c_str(), c"/tmp/heap");
    }

    #[test]
    fn logarithms() {
        for (bytes, wanted) in [(1, 0), (4096, 12), (4097, 12), (512 << 10, 19), (i64::MAX as u64, 63)] {
            assert_eq!(lg(bytes), wanted, "{bytes}");
        }
    }
}
