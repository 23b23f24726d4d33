//! `libheapsift.a`: the static library. See `capi/src` for what it exports.
//!
//! The C++ operators are here, the C functions in a crate of their own: each crate is an object of the archive. A linker
//! takes this one only if a program refers to an operator, as C++ programs do, and so it may demand the C++ library. The
//! operators are weak, as those of the C++ library are: a program may define some of its own.

use heapsift_a_c as _;

/// C++ operators as weak names of functions.
macro_rules! export {
    (naked $symbol:literal fn $name:ident $body:block) => {
        /// A C++ operator; the symbol says which.
        #[unsafe(naked)]
        #[unsafe(link_section = "heapsift_text")]
        unsafe extern "C" fn $name() $body
        export!(@ $symbol $name);
    };
    (@ $symbol:literal $name:ident) => {
        core::arch::global_asm!(
            concat!(".weak ", $symbol),
            concat!(".type ", $symbol, ", @function"),
            concat!(".set ", $symbol, ", {}"),
            sym $name
        );
    };
    ($($symbol:literal fn $name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {
        $(
            /// A C++ operator; the symbol says which.
            #[unsafe(link_section = concat!("heapsift_text.", $symbol))]
            unsafe extern "C" fn $name($($arg: $type),*) $(-> $result)? $body
            export!(@ $symbol $name);
        )*
    };
}

/// A name that no program can take.
macro_rules! own_name {
    ($own:literal, $symbol:literal, $name:ident) => {
        core::arch::global_asm!(concat!(".set ", $own, ", {}"), sym $name);
    };
}

#[path = "../../src/cxx.rs"]
mod cxx;
#[path = "../../src/errno.rs"]
mod errno;
