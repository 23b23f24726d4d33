//! Symbols that a program or its libraries may define, or not.

/// The address of what is defined under this name in the program or its libraries; null where nothing is. `hidden`: where the
/// object that this is linked into defines nothing of that name.
#[doc(hidden)]
#[macro_export]
macro_rules! weak_symbol {
    ($symbol:literal) => {
        $crate::weak_symbol!(@ $symbol, "")
    };
    (hidden $symbol:literal) => {
        $crate::weak_symbol!(@ $symbol, concat!(".hidden ", $symbol))
    };
    (@ $symbol:literal, $visibility:expr) => {{
        let address;
        // SAFETY: reads the global offset table; an undefined weak symbol has address 0.
        unsafe {
            core::arch::asm!(
                // Here, and not once for the module: this may be inlined into another object, where the reference would be
                // one that has to be found.
                concat!(".weak ", $symbol),
                $visibility,
                concat!("mov {}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                out(reg) address, options(nostack, readonly, preserves_flags)
            );
        }
        address
    }};
}
