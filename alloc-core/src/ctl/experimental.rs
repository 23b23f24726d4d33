//! `experimental.*`, but for what belongs to the profiler.

use crate::events::Callback;
use crate::heap::Request;
use crate::pages::hooks::ExtentHooks;

use super::node::Plain;
use super::{Call, Code, Node};

/// `arena_config_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ArenaConfig {
    hooks: *mut ExtentHooks,
    /// jemalloc can take an arena's metadata from its hooks; here metadata never comes from there.
    _metadata_use_hooks: u8,
    _padding: [u8; 7],
}
// SAFETY: a pointer and bytes, no padding.
unsafe impl Plain for ArenaConfig {}

/// What `batch_alloc` is asked.
#[repr(C)]
#[derive(Clone, Copy)]
struct Batch {
    pointers: *mut *mut u8,
    count: usize,
    size: usize,
    flags: i32,
    _padding: u32,
}
// SAFETY: pointers and numbers, no padding.
unsafe impl Plain for Batch {}

/// A callback by bytes.
#[repr(C)]
#[derive(Clone, Copy)]
struct ThreadEvent {
    callback: usize,
    interval: u64,
    alloc_only: u8,
    _padding: [u8; 7],
}
// SAFETY: numbers, no padding.
unsafe impl Plain for ThreadEvent {}

fn create_ext(call: &mut Call<'_>) -> Result<(), Code> {
    call.verify_read::<u32>()?;
    let hooks = call.written::<ArenaConfig>()?.map_or(core::ptr::null_mut(), |config| config.hooks);
    let index = call.heap.create_arena(hooks).ok_or(Code::EAGAIN)?;
    call.read(index)
}

fn batch_alloc(call: &mut Call<'_>) -> Result<(), Code> {
    call.verify_read::<usize>()?;
    let batch = call.written::<Batch>()?.ok_or(Code::EINVAL)?;
    let request = Request::from_flags(batch.flags);
    let mut filled = 0;
    while filled < batch.count {
        let block = call.heap.allocate_with(batch.size, request);
        if block.is_null() {
            break;
        }
        // SAFETY: the caller provides room for `count` pointers.
        unsafe { batch.pointers.add(filled).write(block) };
        filled += 1;
    }
    call.read(filled)
}

fn query(call: &mut Call<'_>) -> Result<(), Code> {
    const WORDS: usize = 6;
    if !call.reads() || call.old_room() != WORDS * 8 {
        return Err(Code::EINVAL);
    }
    let ptr = call.written::<*const u8>()?.ok_or(Code::EINVAL)?;
    let found = call.heap.utilization(ptr);
    call.read([found.current_slab, found.free, found.blocks, found.bytes, found.bin_free, found.bin_blocks])
}

fn batch_query(call: &mut Call<'_>) -> Result<(), Code> {
    let count = call.new_length / 8;
    if !call.reads() || !call.writes() || count == 0 || call.new_length != count * 8 || call.old_room() != count * 24 {
        return Err(Code::EINVAL);
    }
    for i in 0..count {
        // SAFETY: the caller provides so many pointers, and room for so many answers.
        unsafe {
            let ptr = call.new.cast::<*const u8>().add(i).read_unaligned();
            let found = call.heap.utilization(ptr);
            let answer = call.old.cast::<[usize; 3]>().add(i);
            answer.write_unaligned([found.free, found.blocks, found.bytes]);
        }
    }
    Ok(())
}

fn thread_event(call: &mut Call<'_>) -> Result<(), Code> {
    call.write_only()?;
    let event = call.written::<ThreadEvent>()?.ok_or(Code::EINVAL)?;
    if event.callback == 0 {
        return Err(Code::EINVAL);
    }
    // SAFETY: the caller passes a function of this type, which may be called for ever.
    let callback = unsafe { core::mem::transmute::<usize, Callback>(event.callback) };
    if call.heap.add_thread_hook(callback, event.interval, event.alloc_only != 0) { Ok(()) } else { Err(Code::EINVAL) }
}

fn safety_check_abort(call: &mut Call<'_>) -> Result<(), Code> {
    call.write_only()?;
    if let Some(hook) = call.written::<usize>()? {
        // SAFETY: the caller passes null or a function that takes a C string.
        unsafe { crate::message::set_safety_hook(hook) };
    }
    Ok(())
}

pub(super) static NODES: &[Node] = &[
    Node { name: "experimental.hooks.safety_check_abort", handler: safety_check_abort },
    Node { name: "experimental.hooks.thread_event", handler: thread_event },
    Node { name: "experimental.utilization.query", handler: query },
    Node { name: "experimental.utilization.batch_query", handler: batch_query },
    Node {
        name: "experimental.arenas.<i>.pactivep",
        handler: |c| {
            if !c.reads() || c.old_room() != core::mem::size_of::<usize>() {
                return Err(Code::EINVAL);
            }
            c.read_only()?;
            let counter = c.heap.active_pages_counter(c.index(2) as u32).ok_or(Code::ENOENT)?;
            c.read(counter)
        },
    },
    Node { name: "experimental.arenas_create_ext", handler: create_ext },
    Node { name: "experimental.batch_alloc", handler: batch_alloc },
];
