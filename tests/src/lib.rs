//! What the proofs across crates share: where the built files are, how programs are run, and what a dump says.
//!
//! The tests treat the allocator as a stranger would: `libheapsift.so` is a file that is preloaded, `heapsift` a
//! command that is run. Only the dump format's reader is linked.
//!
//! Environment: `HEAPSIFT_LIB`, `HEAPSIFT_ARCHIVE` and `HEAPSIFT_BIN` name other files than the built ones;
//! `HEAPSIFT_PREBUILT=1` says that `cargo build --release` has been run; `HEAPSIFT_LONG=1` asks for the long forms; `HEAPSIFT_REQUIRE_TOOLS=1`
//! makes a missing program a failure where it would be a skipped test.

pub mod artifacts;
pub mod child;
pub mod dump;
pub mod group;
pub mod http;
pub mod redis;
pub mod safety;
pub mod statistics;
pub mod tools;
pub mod truth;

pub use artifacts::{archive, command, fixture, library};
pub use child::{Ended, Program, Server};
pub use dump::Dump;

/// Whether the long forms were asked for.
pub fn is_long() -> bool {
    std::env::var_os("HEAPSIFT_LONG").is_some_and(|value| value == "1")
}

/// `short` usually, `long` where the long forms were asked for.
pub fn by_length<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}
