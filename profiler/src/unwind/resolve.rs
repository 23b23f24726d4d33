//! From a code address to its module and its unwind rule.
//!
//! `_dl_find_object` (glibc 2.35 and later) finds the module without a lock; the binary search table in
//! `.eh_frame_hdr` finds the function's description; gimli runs its program up to the address, on the stack.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, FrameDescriptionEntry, NativeEndian, Operation, OperationIter,
    Pointer, RegisterRule, UnwindExpression, UnwindSection,
};

use super::rules::{self, Rule};
use super::{content, made, met};

/// `struct dl_find_object` of glibc on x86-64.
#[repr(C)]
struct DlFound {
    flags: u64,
    map_start: *mut c_void,
    map_end: *mut c_void,
    link_map: *mut c_void,
    eh_frame: *mut c_void,
    reserved: [u64; 7],
}

type FindObject = unsafe extern "C" fn(*mut c_void, *mut DlFound) -> c_int;

fn find_object() -> Option<FindObject> {
    let address: usize = alloc_core::weak_symbol!("_dl_find_object");
    // SAFETY: a function of that name in the C library has this type.
    (address != 0).then(|| unsafe { core::mem::transmute::<usize, FindObject>(address) })
}

/// Whether modules can be found without a lock.
pub(super) fn available() -> bool {
    find_object().is_some()
}

/// Whether modules can be looked for yet.
///
/// In a static executable the C library allocates before it has set up what `_dl_find_object` reads, which ends in a
/// crash then. The static library says by a flag of this name that constructors run, which is after that; elsewhere
/// there is no flag, and nobody calls too early.
pub(super) fn ready() -> bool {
    let flag: *const AtomicBool = alloc_core::weak_symbol!(hidden "heapsift_loader_ready");
    // SAFETY: not null, so the flag of the static library, which is of this type.
    flag.is_null() || unsafe { (*flag).load(Ordering::Acquire) }
}

/// A loaded module, as of now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Module {
    pub(super) start: usize,
    pub(super) end: usize,
    eh_frame_hdr: usize,
    /// Differs between two modules that are loaded at the same address one after the other, unless the loader's
    /// record, the table's place, the extent and the build id all coincide (the same library again).
    pub(super) identity: u64,
}

/// The module that holds `address`, a return address on this stack: it stays mapped.
pub(super) fn module(address: usize) -> Option<Module> {
    let found = object(address)?;
    let mix = |state: u64, value: usize| (state ^ value as u64).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(23);
    let parts = [found.map_start.addr(), found.map_end.addr(), found.link_map.addr(), found.eh_frame.addr()];
    let (start, end, eh_frame_hdr) = (found.map_start.addr(), found.map_end.addr(), found.eh_frame.addr());
    // The lowest bit is set, so that neither is ever 0.
    let places = parts.iter().fold(0, |state, &part| mix(state, part)) | 1;
    let identity = mix(places, content::word(places, start..end, eh_frame_hdr) as usize) | 1;
    let eh_frame_hdr = if eh_frame_hdr == 0 { made::table(start) } else { eh_frame_hdr };
    Some(Module { start, end, eh_frame_hdr, identity })
}

/// Where the module that holds `address` lies, and its path as the loader has it.
pub(super) fn place(address: usize) -> Option<(usize, &'static [u8])> {
    /// The public beginning of the C library's `struct link_map`.
    #[repr(C)]
    struct LinkMap {
        base: usize,
        name: *const core::ffi::c_char,
    }
    let map = object(address)?.link_map.cast::<LinkMap>();
    // SAFETY: the loader's record of a module whose code is being asked for; its name is a C string or null.
    unsafe {
        let map = map.as_ref()?;
        let name = if map.name.is_null() { &[][..] } else { core::ffi::CStr::from_ptr(map.name).to_bytes() };
        Some((map.base, name))
    }
}

fn object(address: usize) -> Option<DlFound> {
    let find = find_object()?;
    let mut found = DlFound {
        flags: 0,
        map_start: core::ptr::null_mut(),
        map_end: core::ptr::null_mut(),
        link_map: core::ptr::null_mut(),
        eh_frame: core::ptr::null_mut(),
        reserved: [0; 7],
    };
    // SAFETY: `found` has the layout that the C library fills; any address may be asked for.
    if unsafe { find(core::ptr::without_provenance_mut(address), &raw mut found) } != 0 { None } else { Some(found) }
}

/// Whether the allocator's own module has tables to search, which is always the same.
static HAS_TABLES: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const NO: u8 = 1;
const YES: u8 = 2;

/// Whether the module of `address`, the allocator's own, has tables to search. One of a static executable that isn't position
/// independent has those that were made for it, or none: the compiler's start-up code registers its frames with the
/// compiler's unwinder instead.
pub(super) fn has_tables(address: usize) -> bool {
    match HAS_TABLES.load(Ordering::Relaxed) {
        UNKNOWN => {
            let found = module(address).is_some_and(|module| module.eh_frame_hdr != 0);
            HAS_TABLES.store(if found { YES } else { NO }, Ordering::Relaxed);
            found
        }
        answer => answer == YES,
    }
}

/// Makes tables for the module of `address`, the allocator's own, if it has none and is a program that they can be made for.
pub(super) fn make_tables(address: usize) {
    if !has_tables(address) && module(address).is_some_and(|module| made::make(module.start)) {
        HAS_TABLES.store(YES, Ordering::Relaxed);
    }
}

/// Room for gimli's evaluation, on the stack: no allocation.
struct OnStack;

impl<T: gimli::ReaderOffset> gimli::UnwindContextStorage<T> for OnStack {
    type Rules = [(gimli::Register, RegisterRule<T>); 32];
    type Stack = [gimli::UnwindTableRow<T, Self>; 4];
}

const RBP: gimli::Register = gimli::Register(6);
const RSP: gimli::Register = gimli::Register(7);
const RETURN_ADDRESS: gimli::Register = gimli::Register(16);

/// The rule for the code that ends at `behind`, a return address, or one past an address that is exact: from the cache, where
/// it is put when it wasn't there.
#[inline]
pub(super) fn known_rule(module: &Module, behind: usize) -> Rule {
    rules::find(behind, module.identity).unwrap_or_else(|| {
        let rule = rule(module, behind - 1);
        rules::store(behind, module.identity, rule);
        rule
    })
}

/// Works out the rule for code at `address` (of the call, not after it).
#[cold]
#[inline(never)]
fn rule(module: &Module, address: usize) -> Rule {
    let rule = look_up(module, address).unwrap_or(Rule::UNKNOWN);
    met::note(module, address);
    let own = OWN_START.load(Ordering::Relaxed)..OWN_END.load(Ordering::Relaxed);
    if own.contains(&module.eh_frame_hdr) {
        // SAFETY: whoever told the range has promised that nobody writes there.
        unsafe { alloc_core::sys::let_go_of_file(&own) };
    }
    rule
}

/// The unwind tables of the shared library that this is a part of; an empty range otherwise.
static OWN_START: AtomicUsize = AtomicUsize::new(0);
static OWN_END: AtomicUsize = AtomicUsize::new(0);

/// See [`crate::set_own_tables`].
pub(crate) fn set_own_tables(range: core::ops::Range<usize>) {
    OWN_START.store(range.start, Ordering::Relaxed);
    OWN_END.store(range.end, Ordering::Relaxed);
}

fn look_up(module: &Module, address: usize) -> Option<Rule> {
    if module.eh_frame_hdr == 0 {
        return None;
    }
    // Of a static executable, the C library tells the code alone; its tables lie in another segment.
    const TABLES_MAX: usize = 256 << 20;
    let within = (module.start..module.end).contains(&module.eh_frame_hdr);
    let (start, end) = if within {
        (module.start, module.end)
    } else {
        (module.eh_frame_hdr.saturating_sub(TABLES_MAX), module.eh_frame_hdr.saturating_add(TABLES_MAX))
    };
    // SAFETY: the loader says that the module is mapped there, and a return address into it is on this stack, so it
    // stays mapped. Between the table and the end of the range there may be a hole of an odd layout; the table and
    // the frames, which is all that is read, lie in front of it.
    let hdr = unsafe { slice(module.eh_frame_hdr, end - module.eh_frame_hdr) };
    let bases = BaseAddresses::default().set_eh_frame_hdr(module.eh_frame_hdr as u64);
    let parsed = EhFrameHdr::new(hdr, NativeEndian).parse(&bases, 8).ok()?;
    let Pointer::Direct(eh_frame) = parsed.eh_frame_ptr() else { return None };
    let eh_frame = eh_frame as usize;
    if !(start..end).contains(&eh_frame) {
        return None;
    }
    let bases = bases.set_eh_frame(eh_frame as u64);
    // SAFETY: as above.
    let section = EhFrame::new(unsafe { slice(eh_frame, end - eh_frame) }, NativeEndian);
    let table = parsed.table()?;
    let fde = table
        .fde_for_address(&section, &bases, address as u64, |section, bases, offset| {
            section.cie_from_offset(bases, offset)
        })
        .ok()?;
    // Not the same as no tables: it is known that the frame is none that a guess would find.
    Some(of_description(&section, &bases, &fde, address).unwrap_or(Rule::OTHER))
}

type Bytes = gimli::EndianSlice<'static, NativeEndian>;

/// What the description of a function says of `address`; `None` where that is no rule.
fn of_description(
    section: &EhFrame<Bytes>,
    bases: &BaseAddresses,
    fde: &FrameDescriptionEntry<Bytes>,
    address: usize,
) -> Option<Rule> {
    if fde.is_signal_trampoline() {
        return Some(Rule::SIGNAL);
    }
    let mut context = gimli::UnwindContext::<usize, OnStack>::new_in();
    let row = fde.unwind_info_for_address(section, bases, &mut context, address as u64).ok()?;
    match row.register(RETURN_ADDRESS) {
        Some(RegisterRule::Offset(-8)) => {}
        // The C library marks the first frame of a program and of a thread this way.
        Some(RegisterRule::Undefined) => return Some(Rule::END),
        _ => return None,
    }
    let (from_frame_pointer, offset) = match row.cfa() {
        CfaRule::RegisterAndOffset { register: RSP, offset } => (false, *offset),
        CfaRule::RegisterAndOffset { register: RBP, offset } => (true, *offset),
        CfaRule::Expression(cfa) => {
            let Some(RegisterRule::Expression(rbp)) = row.register(RBP) else { return None };
            let expression =
                |of: UnwindExpression<usize>| of.get(section).ok().map(|it| it.operations(fde.cie().encoding()));
            return aligned(expression(*cfa)?, expression(rbp)?);
        }
        _ => return None,
    };
    let rbp_words = match row.register(RBP) {
        Some(RegisterRule::Offset(at)) => Some(words(at)?),
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => None,
        _ => return None,
    };
    Some(Rule::new(from_frame_pointer, i32::try_from(offset).ok()?, rbp_words))
}

/// The rule of a function that aligns its stack pointer further than its caller has, and whose frame has no fixed size. GCC
/// keeps the CFA on the stack then: it is the word at rbp plus an offset, and rbp is saved at rbp plus another one.
fn aligned(mut cfa: OperationIter<Bytes>, mut rbp: OperationIter<Bytes>) -> Option<Rule> {
    let from_rbp = |operations: &mut OperationIter<Bytes>| match operations.next() {
        Ok(Some(Operation::RegisterOffset { register: RBP, offset, .. })) => Some(offset),
        _ => None,
    };
    let rule = Rule::from_word(i32::try_from(from_rbp(&mut cfa)?).ok()?, words(from_rbp(&mut rbp)?)?);
    let is_word = matches!(cfa.next(), Ok(Some(Operation::Deref { size: 8, space: false, .. })));
    let are_all = matches!((cfa.next(), rbp.next()), (Ok(None), Ok(None)));
    (is_word && are_all).then_some(rule)
}

fn words(bytes: i64) -> Option<i16> {
    if bytes % 8 == 0 { i16::try_from(bytes / 8).ok() } else { None }
}

/// # Safety
/// The range is mapped and readable where it is read.
unsafe fn slice(address: usize, length: usize) -> &'static [u8] {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address), length) }
}
