//! `arena.<i>.*` and `arenas.*`.

use core::ffi::c_char;

use crate::conf::DSS;
use crate::decay::Tier;
use crate::introspect::ArenaSelection;
use crate::message::until_zero;
use crate::pages::hooks::ExtentHooks;
use crate::size::{self, NBINS, NLEXTENTS};
use crate::sys::PAGE;

use super::indices::{ARENAS_ALL, ARENAS_DESTROYED};
use super::node::text;
use super::{Call, Code, Node};

/// What an index of `arena.<i>` stands for.
fn selection(call: &Call<'_>) -> Option<ArenaSelection> {
    let index = call.index(1);
    if index == ARENAS_ALL || index == call.heap.narenas() as usize {
        Some(ArenaSelection::All)
    } else if index == ARENAS_DESTROYED {
        None
    } else {
        want_first(call, index);
        Some(ArenaSelection::One(index as u32))
    }
}

/// The first arena is there from the start: a program may set it up before it allocates anything.
fn want_first(call: &Call<'_>, index: usize) {
    if index == 0 && !call.heap.arena_initialized(0) {
        call.heap.thread_arena();
    }
}

/// A single arena's index.
fn index(call: &Call<'_>) -> Result<u32, Code> {
    let index = call.index(1);
    want_first(call, index);
    if index < call.heap.narenas() as usize { Ok(index as u32) } else { Err(Code::EFAULT) }
}

fn initialized(call: &mut Call<'_>) -> Result<(), Code> {
    call.read_only()?;
    let there = match selection(call) {
        Some(ArenaSelection::All) => true,
        Some(ArenaSelection::One(index)) => call.heap.arena_initialized(index),
        None => call.heap.snapshot().lock().arena(crate::snapshot::Which::Destroyed).is_some(),
    };
    call.read_bool(there)
}

fn decay_ms(call: &mut Call<'_>, tier: Tier) -> Result<(), Code> {
    let index = index(call)?;
    let before = call.heap.arena_decay_ms(index, tier).ok_or(Code::EFAULT)?;
    call.read(before as isize)?;
    match call.written::<isize>()? {
        Some(ms) if !call.heap.set_arena_decay_ms(index, tier, ms as i64) => Err(Code::EFAULT),
        _ => Ok(()),
    }
}

fn default_decay_ms(call: &mut Call<'_>, tier: Tier) -> Result<(), Code> {
    call.read(call.heap.default_decay_ms(tier) as isize)?;
    match call.written::<isize>()? {
        Some(ms) if !call.heap.set_default_decay_ms(tier, ms as i64) => Err(Code::EFAULT),
        _ => Ok(()),
    }
}

fn reset(call: &mut Call<'_>) -> Result<(), Code> {
    call.void()?;
    // SAFETY: the caller of `mallctl` has given all blocks of the arena up.
    unsafe { call.heap.reset_arena(index(call)?) }.map_err(|_| Code::EFAULT)
}

fn destroy(call: &mut Call<'_>) -> Result<(), Code> {
    call.void()?;
    // SAFETY: as above, and the arena itself.
    unsafe { call.heap.destroy_arena(index(call)?) }.map_err(|_| Code::EFAULT)
}

fn dss(call: &mut Call<'_>) -> Result<(), Code> {
    let wanted = match call.written::<*const c_char>()? {
        None => None,
        Some(word) => {
            // SAFETY: the caller passes null or a C string.
            let word = unsafe { text(word) }.ok_or(Code::EINVAL)?;
            Some(DSS.iter().position(|known| known.to_bytes() == word).ok_or(Code::EINVAL)?)
        }
    };
    let before = match selection(call).ok_or(Code::EFAULT)? {
        ArenaSelection::All => call.heap.default_dss(wanted),
        ArenaSelection::One(index) => call.heap.arena_dss(index, wanted).ok_or(Code::EFAULT)?,
    };
    call.read_text(DSS[before])
}

fn oversize_threshold(call: &mut Call<'_>) -> Result<(), Code> {
    let index = index(call)?;
    let before = call.heap.arena_purge_from_bytes(index, None).ok_or(Code::EFAULT)?;
    call.read(before)?;
    if let Some(bytes) = call.written::<usize>()? {
        call.heap.arena_purge_from_bytes(index, Some(bytes));
    }
    Ok(())
}

fn retain_grow_limit(call: &mut Call<'_>) -> Result<(), Code> {
    if !call.heap.options().retain {
        return Err(Code::ENOENT);
    }
    let index = index(call)?;
    let wanted = call.written::<usize>()?;
    if wanted.is_some_and(|bytes| !(PAGE..=size::MAX_SIZE_CLASS).contains(&bytes)) {
        return Err(Code::EFAULT);
    }
    let before = call.heap.arena_grow_limit(index, wanted.map(size::class_within)).ok_or(Code::EFAULT)?;
    call.read(before)
}

fn extent_hooks(call: &mut Call<'_>) -> Result<(), Code> {
    let index = index(call)?;
    let before = call.heap.arena_hooks(index).ok_or(Code::EFAULT)?;
    if let Some(table) = call.written::<*mut ExtentHooks>()?
        && !call.heap.set_arena_hooks(index, table)
    {
        return Err(Code::EFAULT);
    }
    call.read(before)
}

fn name(call: &mut Call<'_>) -> Result<(), Code> {
    let index = index(call)?;
    let name = call.heap.arena_name(index).ok_or(Code::EFAULT)?;
    if call.reads() && !call.read_passing_text(until_zero(&name)) {
        // The caller's buffer holds the address of another one, for the name.
        let buffer: *mut u8 = call.old_value()?;
        // SAFETY: the caller provides room for the longest name.
        unsafe { buffer.copy_from_nonoverlapping(name.as_ptr(), name.len()) };
    }
    if let Some(new) = call.written::<*const c_char>()? {
        // SAFETY: the caller passes a C string.
        let new = unsafe { text(new) }.ok_or(Code::EINVAL)?;
        call.heap.set_arena_name(index, new);
    }
    Ok(())
}

fn create(call: &mut Call<'_>) -> Result<(), Code> {
    call.verify_read::<u32>()?;
    let hooks = call.written::<*mut ExtentHooks>()?.unwrap_or(core::ptr::null_mut());
    let index = call.heap.create_arena(hooks).ok_or(Code::EAGAIN)?;
    call.read(index)
}

fn lookup(call: &mut Call<'_>) -> Result<(), Code> {
    let ptr = call.written::<*const u8>()?.unwrap_or(core::ptr::null());
    let arena = call.heap.block_arena(ptr).filter(|&arena| arena < call.heap.narenas()).ok_or(Code::EINVAL)?;
    call.read(arena)
}

macro_rules! constant {
    ($name:literal, |$call:ident| $value:expr) => {
        Node {
            name: concat!("arenas.", $name),
            handler: |$call| {
                $call.read_only()?;
                $call.read($value)
            },
        }
    };
}

pub(super) static NODES: &[Node] = &[
    Node { name: "arena.<i>.initialized", handler: initialized },
    Node {
        name: "arena.<i>.decay",
        handler: |c| {
            c.void()?;
            selection(c).into_iter().for_each(|which| c.heap.arena_decay(which));
            Ok(())
        },
    },
    Node {
        name: "arena.<i>.purge",
        handler: |c| {
            c.void()?;
            selection(c).into_iter().for_each(|which| c.heap.arena_purge(which));
            Ok(())
        },
    },
    Node { name: "arena.<i>.reset", handler: reset },
    Node { name: "arena.<i>.destroy", handler: destroy },
    Node { name: "arena.<i>.dss", handler: dss },
    Node { name: "arena.<i>.oversize_threshold", handler: oversize_threshold },
    Node { name: "arena.<i>.dirty_decay_ms", handler: |c| decay_ms(c, Tier::Dirty) },
    Node { name: "arena.<i>.muzzy_decay_ms", handler: |c| decay_ms(c, Tier::Muzzy) },
    Node { name: "arena.<i>.extent_hooks", handler: extent_hooks },
    Node { name: "arena.<i>.retain_grow_limit", handler: retain_grow_limit },
    Node { name: "arena.<i>.name", handler: name },
    constant!("narenas", |c| c.heap.narenas()),
    Node { name: "arenas.dirty_decay_ms", handler: |c| default_decay_ms(c, Tier::Dirty) },
    Node { name: "arenas.muzzy_decay_ms", handler: |c| default_decay_ms(c, Tier::Muzzy) },
    constant!("quantum", |c| 16usize),
    constant!("page", |c| PAGE),
    constant!("hugepage", |c| 2usize << 20),
    constant!("tcache_max", |c| size::class_bytes(c.heap.options().cached_classes())),
    constant!("nbins", |c| NBINS as u32),
    constant!("nhbins", |c| c.heap.options().cached_classes() as u32),
    constant!("bin.<i>.size", |c| size::class_size(c.index(2))),
    constant!("bin.<i>.nregs", |c| size::slab_regions(c.index(2)) as u32),
    constant!("bin.<i>.slab_size", |c| size::slab_pages(c.index(2)) * PAGE),
    constant!("bin.<i>.nshards", |c| c.heap.bin_shards(c.index(2) + 1)),
    constant!("nlextents", |c| NLEXTENTS as u32),
    constant!("lextent.<i>.size", |c| size::large_class_size(c.index(2))),
    Node { name: "arenas.create", handler: create },
    Node { name: "arenas.lookup", handler: lookup },
];
