//! `version`, `epoch`, `config.*`, and background threads.

use core::ffi::CStr;

use super::{Call, Code, Node, stats};

/// The version that C programs see.
pub(crate) const VERSION: &CStr =
    match CStr::from_bytes_with_nul(concat!("heapsift-", env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"heapsift",
    };

/// What jemalloc decides when it is built, and what holds of this heap. Also told by reports.
pub(crate) const CONFIG: [(&str, bool); 12] = [
    ("cache_oblivious", false),
    ("debug", cfg!(debug_assertions)),
    ("fill", true),
    ("lazy_lock", false),
    ("opt_safety_checks", true),
    ("prof", true),
    ("prof_libgcc", true),
    ("prof_libunwind", false),
    ("prof_frameptr", true),
    ("stats", true),
    ("utrace", false),
    ("xmalloc", true),
];

macro_rules! config {
    ($position:literal, $name:literal) => {
        Node {
            name: concat!("config.", $name),
            handler: |c| {
                const { assert!(CONFIG[$position].0.len() == $name.len()) };
                c.read_only()?;
                c.read_bool(CONFIG[$position].1)
            },
        }
    };
}

fn epoch(call: &mut Call<'_>) -> Result<(), Code> {
    if call.written::<u64>()?.is_some() {
        call.heap.refresh_snapshot();
    } else {
        stats::ensure_taken(call.heap);
    }
    let epoch = call.heap.snapshot().lock().epoch;
    call.read(epoch)
}

fn background_thread(call: &mut Call<'_>) -> Result<(), Code> {
    let before = call.heap.background_thread();
    let wanted = call.written_bool()?;
    // A buffer of the wrong size changes nothing.
    call.read_bool(before)?;
    match wanted {
        Some(on) if on != before && !call.heap.set_background_thread(on) => Err(Code::EFAULT),
        _ => Ok(()),
    }
}

fn max_background_threads(call: &mut Call<'_>) -> Result<(), Code> {
    let before = call.heap.max_background_threads();
    let wanted = call.written::<usize>()?;
    call.read(before)?;
    match wanted {
        Some(max) if !call.heap.set_max_background_threads(max) => Err(Code::EINVAL),
        _ => Ok(()),
    }
}

pub(super) static NODES: &[Node] = &[
    Node {
        name: "version",
        handler: |c| {
            c.read_only()?;
            c.read_text(VERSION)
        },
    },
    Node { name: "epoch", handler: epoch },
    Node { name: "background_thread", handler: background_thread },
    Node { name: "max_background_threads", handler: max_background_threads },
    config!(0, "cache_oblivious"),
    config!(1, "debug"),
    config!(2, "fill"),
    config!(3, "lazy_lock"),
    Node {
        name: "config.malloc_conf",
        handler: |c| {
            c.read_only()?;
            c.read_text(c"")
        },
    },
    config!(4, "opt_safety_checks"),
    config!(5, "prof"),
    config!(6, "prof_libgcc"),
    config!(7, "prof_libunwind"),
    config!(8, "prof_frameptr"),
    config!(9, "stats"),
    config!(10, "utrace"),
    config!(11, "xmalloc"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_names_match() {
        for (name, _) in CONFIG {
            assert!(NODES.iter().any(|node| node.name.strip_prefix("config.") == Some(name)), "{name}");
        }
    }
}
