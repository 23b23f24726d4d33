//! The scenarios of `docs/safety.md` that need whole programs: faults, forks, signals, threads, dumps.
//!
//! Each test is named by its row, and says what it measured to the table that [`heapsift_tests::safety`] writes.

mod configuration;
mod dumps;
mod forks;
mod memory;
mod peers;
mod profiles;
mod signals;
mod soak;
mod strace;
mod threads;
