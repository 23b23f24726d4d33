//! The scenarios of `docs/safety.md` that need whole programs: faults, forks, signals, threads, dumps.
//!
//! Each test is named by its row, and says what it measured to the table that [`heapsift_tests::safety`] writes.

mod dumps;
mod forks;
mod strace;
