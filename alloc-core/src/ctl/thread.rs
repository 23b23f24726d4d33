//! `thread.*` and `tcache.*`.

use super::{Call, Code, Node};

fn arena(call: &mut Call<'_>) -> Result<(), Code> {
    let before = call.heap.thread_arena();
    let wanted = call.written::<u32>()?;
    call.read(before)?;
    let Some(index) = wanted.filter(|&index| index != before) else { return Ok(()) };
    if index >= call.heap.narenas() {
        return Err(Code::EFAULT);
    }
    if call.heap.is_cpu_arena(index) {
        return Err(Code::EPERM);
    }
    if call.heap.set_thread_arena(index) { Ok(()) } else { Err(Code::EAGAIN) }
}

fn tcache_enabled(call: &mut Call<'_>) -> Result<(), Code> {
    let before = call.heap.thread_tcache_enabled();
    if let Some(on) = call.written_bool()? {
        call.heap.set_thread_tcache_enabled(on);
    }
    call.read_bool(before)
}

fn tcache_flush(call: &mut Call<'_>) -> Result<(), Code> {
    if !call.heap.thread_tcache_enabled() {
        return Err(Code::EFAULT);
    }
    call.void()?;
    call.heap.thread_tcache_flush();
    Ok(())
}

fn tcache_max(call: &mut Call<'_>) -> Result<(), Code> {
    let before = call.heap.thread_tcache_max();
    call.read(before)?;
    let Some(wanted) = call.written::<usize>()? else { return Ok(()) };
    if wanted == before || call.heap.set_thread_tcache_max(wanted) { Ok(()) } else { Err(Code::EAGAIN) }
}

/// The size goes in and the number comes out.
fn ncached_max_read_sizeclass(call: &mut Call<'_>) -> Result<(), Code> {
    let bytes = call.written::<usize>()?.ok_or(Code::EINVAL)?;
    let slots = call.heap.thread_ncached_max(bytes).ok_or(Code::EINVAL)?;
    call.read(slots)
}

fn ncached_max_write(call: &mut Call<'_>) -> Result<(), Code> {
    /// Longer settings are refused, as in jemalloc.
    const LONGEST: usize = 1000;
    call.write_only()?;
    let Some(settings) = call.written_text(LONGEST)? else { return Ok(()) };
    if !call.heap.thread_tcache_enabled() {
        return Err(Code::ENOENT);
    }
    let settings = settings.ok_or(Code::EINVAL)?;
    if settings.is_empty() {
        return Ok(());
    }
    match call.heap.set_thread_ncached_max(settings) {
        Some(true) => Ok(()),
        Some(false) => Err(Code::EAGAIN),
        None => Err(Code::EINVAL),
    }
}

pub(super) static NODES: &[Node] = &[
    Node { name: "thread.arena", handler: arena },
    Node {
        name: "thread.allocated",
        handler: |c| {
            c.read_only()?;
            c.read(c.heap.thread_counts().0)
        },
    },
    Node {
        name: "thread.allocatedp",
        handler: |c| {
            c.read_only()?;
            c.read(c.heap.thread_allocated_counter())
        },
    },
    Node {
        name: "thread.deallocated",
        handler: |c| {
            c.read_only()?;
            c.read(c.heap.thread_counts().1)
        },
    },
    Node {
        name: "thread.deallocatedp",
        handler: |c| {
            c.read_only()?;
            c.read(c.heap.thread_deallocated_counter())
        },
    },
    Node { name: "thread.tcache.enabled", handler: tcache_enabled },
    Node { name: "thread.tcache.max", handler: tcache_max },
    Node { name: "thread.tcache.flush", handler: tcache_flush },
    Node { name: "thread.tcache.ncached_max.read_sizeclass", handler: ncached_max_read_sizeclass },
    Node { name: "thread.tcache.ncached_max.write", handler: ncached_max_write },
    Node {
        name: "thread.peak.read",
        handler: |c| {
            c.read_only()?;
            c.read(c.heap.thread_peak())
        },
    },
    Node {
        name: "thread.peak.reset",
        handler: |c| {
            c.void()?;
            c.heap.reset_thread_peak();
            Ok(())
        },
    },
    Node {
        name: "thread.idle",
        handler: |c| {
            c.void()?;
            c.heap.thread_idle();
            Ok(())
        },
    },
];

/// Caches of programs' own. An index that is none is no error, as in jemalloc.
pub(super) static TCACHE_NODES: &[Node] = &[
    Node {
        name: "tcache.create",
        handler: |c| {
            c.read_only()?;
            c.verify_read::<u32>()?;
            let index = c.heap.create_cache().ok_or(Code::EFAULT)?;
            c.read(index)
        },
    },
    Node {
        name: "tcache.flush",
        handler: |c| {
            c.write_only()?;
            let index = c.written::<u32>()?.ok_or(Code::EINVAL)?;
            // SAFETY: the caller of `mallctl` sees to it that no other thread uses the cache.
            unsafe { c.heap.flush_cache(index) };
            Ok(())
        },
    },
    Node {
        name: "tcache.destroy",
        handler: |c| {
            c.write_only()?;
            let index = c.written::<u32>()?.ok_or(Code::EINVAL)?;
            // SAFETY: as above.
            unsafe { c.heap.destroy_cache(index) };
            Ok(())
        },
    },
];
