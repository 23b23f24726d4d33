//! The options and the profiler's settings, read by their control names.

use core::ffi::{CStr, c_char};
use core::fmt::{self, Write};

use crate::ctl::{self, HeapControl};

/// The C type of a control name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Unsigned,
    Size,
    Signed,
    Text,
    /// 16.16 fixed point, shown as text.
    Fixed,
}

/// An option and where its present value is told, if it can change.
pub(super) struct Shown {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) now: Option<&'static str>,
}

const fn shown(name: &'static str, kind: Kind) -> Shown {
    Shown { name, kind, now: None }
}

const fn mutable(name: &'static str, kind: Kind, now: &'static str) -> Shown {
    Shown { name, kind, now: Some(now) }
}

use Kind::{Bool, Fixed, Signed, Size, Text, Unsigned};

/// Names below `opt.`; those that a build does not have are left out.
pub(super) static OPTIONS: &[Shown] = &[
    shown("abort", Bool),
    shown("abort_conf", Bool),
    shown("cache_oblivious", Bool),
    shown("confirm_conf", Bool),
    shown("trust_madvise", Bool),
    shown("experimental_hpa_start_huge_if_thp_always", Bool),
    shown("experimental_hpa_enforce_hugify", Bool),
    shown("huge_arena_pac_thp", Bool),
    shown("retain", Bool),
    shown("dss", Text),
    shown("narenas", Unsigned),
    shown("percpu_arena", Text),
    shown("oversize_threshold", Size),
    shown("hpa", Bool),
    shown("hpa_slab_max_alloc", Size),
    shown("hpa_hugification_threshold", Size),
    shown("hpa_hugify_delay_ms", Size),
    shown("hpa_hugify_sync", Bool),
    shown("hpa_hugify_style", Text),
    shown("hpa_min_purge_interval_ms", Size),
    shown("hpa_min_purge_delay_ms", Size),
    shown("experimental_hpa_max_purge_nhp", Signed),
    shown("hpa_purge_threshold", Size),
    shown("hpa_dirty_mult", Fixed),
    shown("hpa_sec_nshards", Size),
    shown("hpa_sec_max_alloc", Size),
    shown("hpa_sec_max_bytes", Size),
    shown("metadata_thp", Text),
    shown("mutex_max_spin", Signed),
    mutable("background_thread", Bool, "background_thread"),
    mutable("max_background_threads", Size, "max_background_threads"),
    mutable("dirty_decay_ms", Signed, "arenas.dirty_decay_ms"),
    mutable("muzzy_decay_ms", Signed, "arenas.muzzy_decay_ms"),
    shown("lg_extent_max_active_fit", Size),
    shown("junk", Text),
    shown("zero", Bool),
    shown("utrace", Bool),
    shown("xmalloc", Bool),
    shown("experimental_infallible_new", Bool),
    shown("experimental_tcache_gc", Bool),
    shown("tcache", Bool),
    shown("tcache_max", Size),
    shown("tcache_nslots_small_min", Unsigned),
    shown("tcache_nslots_small_max", Unsigned),
    shown("tcache_nslots_large", Unsigned),
    shown("lg_tcache_nslots_mul", Signed),
    shown("tcache_gc_incr_bytes", Size),
    shown("tcache_gc_delay_bytes", Size),
    shown("lg_tcache_flush_small_div", Unsigned),
    shown("lg_tcache_flush_large_div", Unsigned),
    shown("debug_double_free_max_scan", Unsigned),
    shown("disable_large_size_classes", Bool),
    shown("process_madvise_max_batch", Size),
    shown("thp", Text),
    shown("huge_pages_from", Size),
    shown("lg_san_uaf_align", Signed),
    shown("safety_check", Bool),
    shown("deepbind", Bool),
    shown("prof", Bool),
    shown("prof_prefix", Text),
    mutable("prof_active", Bool, "prof.active"),
    mutable("prof_thread_active_init", Bool, "prof.thread_active_init"),
    mutable("lg_prof_sample", Size, "prof.lg_sample"),
    mutable("prof_sample", Size, "prof.sample"),
    shown("prof_accum", Bool),
    shown("prof_bt_max", Unsigned),
    shown("prof_pid_namespace", Bool),
    shown("lg_prof_interval", Signed),
    mutable("prof_gdump", Bool, "prof.gdump"),
    shown("prof_final", Bool),
    shown("prof_leak", Bool),
    shown("prof_leak_error", Bool),
    shown("prof_stats", Bool),
    shown("prof_sys_thread_name", Bool),
    shown("prof_time_resolution", Text),
    shown("prof_recent_alloc_max", Signed),
    shown("prof_unwind", Text),
    shown("prof_unbias", Bool),
    shown("prof_log", Bool),
    shown("prof_peak", Bool),
    shown("prof_lifetime_frees", Bool),
    shown("prof_guard", Size),
    shown("prof_seed", Size),
    shown("prof_format", Text),
    shown("prof_interval", Size),
    shown("prof_interval_ms", Size),
    shown("prof_rss_growth_pct", Unsigned),
    shown("prof_cgroup_pct", Unsigned),
    shown("prof_signal", Unsigned),
    shown("prof_keep", Size),
    shown("prof_keep_largest", Size),
    shown("prof_control", Text),
    shown("stats_print", Bool),
    shown("stats_print_opts", Text),
    shown("stats_interval", Signed),
    shown("stats_interval_opts", Text),
    shown("zero_realloc", Text),
    shown("malloc_conf.symlink", Text),
    shown("malloc_conf.env_var", Text),
    shown("malloc_conf.global_var", Text),
    shown("malloc_conf.global_var_2_conf_harder", Text),
];

/// The profiler's settings as they are now: names below `prof.`.
pub(super) static PROFILING: &[Shown] = &[
    shown("thread_active_init", Bool),
    shown("active", Bool),
    shown("gdump", Bool),
    shown("interval", Size),
    shown("lg_sample", Size),
];

/// A value that was read.
#[derive(Clone, Copy)]
pub(super) enum Value {
    Bool(bool),
    Number(u64),
    Signed(i64),
    Text(&'static CStr),
    Fixed(u32),
}

/// Reads a control name of a known type; `None`: there is no such name.
pub(super) fn read(heap: &'static dyn HeapControl, name: &str, kind: Kind) -> Option<Value> {
    let mut raw = [0u8; 8];
    let mut length = match kind {
        Bool => 1,
        Unsigned | Fixed => 4,
        Size | Signed | Text => 8,
    };
    // SAFETY: the buffer has that length.
    unsafe {
        ctl::by_name(heap, name.as_bytes(), raw.as_mut_ptr(), &raw mut length, core::ptr::null(), 0).ok()?;
    }
    let number = u64::from_ne_bytes(raw);
    Some(match kind {
        Bool => Value::Bool(raw[0] != 0),
        Unsigned | Size => Value::Number(number),
        Signed => Value::Signed(number.cast_signed()),
        Fixed => Value::Fixed(number as u32),
        Text => {
            let text: *const c_char = core::ptr::with_exposed_provenance(number as usize);
            if text.is_null() {
                return None;
            }
            // SAFETY: names of this type answer with C strings that stay.
            Value::Text(unsafe { CStr::from_ptr(text) })
        }
    })
}

impl Value {
    /// The value in both forms: text is in quotes, all else bare.
    pub(super) fn write(self, out: &mut impl Write) -> fmt::Result {
        match self {
            Value::Bool(on) => write!(out, "{on}"),
            Value::Number(n) => write!(out, "{n}"),
            Value::Signed(n) => write!(out, "{n}"),
            Value::Text(text) => quoted(text.to_bytes(), out),
            Value::Fixed(u32::MAX) => out.write_str("\"-1\""),
            Value::Fixed(n) => {
                out.write_char('"')?;
                fixed(n, out)?;
                out.write_char('"')
            }
        }
    }
}

/// Fixed point as digits, without zeros at the end; what is told is never more than 5 digits off the point.
fn fixed(n: u32, out: &mut impl Write) -> fmt::Result {
    write!(out, "{}", n >> 16)?;
    let mut rest = u64::from(n & 0xffff);
    if rest != 0 {
        out.write_char('.')?;
    }
    let mut digits = 0;
    while rest != 0 && digits < 5 {
        rest *= 10;
        write!(out, "{}", rest >> 16)?;
        rest &= 0xffff;
        digits += 1;
    }
    Ok(())
}

/// Text in quotes as JSON has it. Bytes that are no UTF-8 are shown as the replacement character.
pub(super) fn quoted(text: &[u8], out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                c if (c as u32) < 0x20 => write!(out, "\\u{:04x}", c as u32)?,
                c => out.write_char(c)?,
            }
        }
        if !chunk.invalid().is_empty() {
            out.write_char('\u{fffd}')?;
        }
    }
    out.write_char('"')
}

/// Writes a name with a prefix into a small buffer, for [`read`].
pub(super) fn joined<'a>(prefix: &str, name: &str, buffer: &'a mut [u8; 64]) -> &'a str {
    let length = (prefix.len() + name.len()).min(buffer.len());
    for (slot, byte) in buffer.iter_mut().zip(prefix.bytes().chain(name.bytes())) {
        *slot = byte;
    }
    core::str::from_utf8(&buffer[..length]).unwrap_or("")
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;

    #[test]
    fn texts_and_fractions() {
        let mut out = String::new();
        quoted(b"a\"b\\c\n\xff", &mut out).unwrap();
        assert_eq!(out, "\"a\\\"b\\\\c\\u000a\u{fffd}\"");
        for (n, want) in [(1 << 14, "\"0.25\""), (4 << 16, "\"4\""), (u32::MAX, "\"-1\"")] {
            let mut out = String::new();
            Value::Fixed(n).write(&mut out).unwrap();
            assert_eq!(out, want);
        }
    }
}
