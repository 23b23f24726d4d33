//! What is fuzzed: one function for each target, bytes in, a panic where something is wrong.
//!
//! The tests of this crate replay what was found once, and try some thousand random changes of the seeds.
// The heap checks its invariants in builds with assertions only, and so do these; there is nothing to build without.
#![cfg(debug_assertions)]

mod binaries;
mod configuration;
mod operations;
mod process;
mod readers;
mod seeds;
mod writers;

/// Something that is fuzzed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, that of its regressions' directory and of its binary.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that its inputs are made of.
    pub words: &'static [&'static str],
    /// Inputs that the test tries.
    pub tries: u32,
}

/// All of them.
pub const ALL: [Target; 13] = [
    Target {
        name: "malloc_conf",
        run: configuration::malloc_conf,
        seeds: seeds::malloc_conf,
        words: seeds::OPTIONS,
        tries: 3000,
    },
    Target { name: "mallctl", run: process::mallctl, seeds: seeds::mallctl, words: seeds::NAMES, tries: 1000 },
    Target { name: "operations", run: operations::operations, seeds: seeds::operations, words: &[], tries: 100 },
    Target { name: "pprof", run: readers::pprof, seeds: seeds::pprof, words: &[], tries: 1500 },
    Target { name: "heap_v2", run: readers::text, seeds: seeds::heap_v2, words: seeds::TEXT, tries: 1000 },
    Target { name: "gperftools", run: readers::text, seeds: seeds::gperftools, words: seeds::TEXT, tries: 1000 },
    Target { name: "heaptrack", run: readers::text, seeds: seeds::heaptrack, words: seeds::TEXT, tries: 1000 },
    Target { name: "maps", run: readers::maps, seeds: seeds::maps, words: seeds::TEXT, tries: 1000 },
    Target { name: "elf_notes", run: binaries::notes, seeds: seeds::notes, words: &["GNU\0"], tries: 3000 },
    Target { name: "dwarf", run: binaries::dwarf, seeds: seeds::dwarf, words: &[], tries: 300 },
    Target { name: "http", run: process::http, seeds: seeds::http, words: seeds::HTTP, tries: 200 },
    Target { name: "control", run: process::control, seeds: seeds::control, words: seeds::NAMES, tries: 200 },
    Target { name: "writers", run: writers::writers, seeds: seeds::names, words: seeds::MARKUP, tries: 300 },
];

/// The target of that name.
pub fn target(name: &str) -> Target {
    *ALL.iter().find(|target| target.name == name).expect("a target of that name")
}
