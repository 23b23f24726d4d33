//! Instructions of the fast paths: `fast_path/driver.cc` under callgrind, the harness taken off.
//!
//! The driver is counted twice for each pattern: with an allocator preloaded, and linked to `fast_path/empty.c`, whose
//! functions are one or two instructions each. The second count less those is the harness: the loop, the PLT, the
//! tables of sizes and orders.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::allocators::Allocator;
use crate::compile::compile;
use crate::{Failure, Outcome, fail, workshop};

/// One way of allocating and freeing over and over.
#[derive(Debug)]
pub struct Pattern {
    /// Its name, as the driver knows it.
    pub name: &'static str,
    /// What one operation is.
    pub what: &'static str,
    /// Instructions of one operation inside of the empty allocator.
    empty: f64,
    /// Bytes that one operation allocates, about.
    bytes: u64,
}

/// Every pattern of the driver. A pair is one allocation and one free: 2 + 1 instructions of the empty allocator.
pub const PATTERNS: [Pattern; 9] = [
    Pattern { name: "pair16-128", what: "malloc and free of 16, 32, … 128 bytes in turn", empty: 3.0, bytes: 72 },
    Pattern { name: "pair32", what: "malloc and free of 32 bytes", empty: 3.0, bytes: 32 },
    Pattern { name: "calloc64", what: "calloc and free of 64 bytes", empty: 3.0, bytes: 64 },
    Pattern {
        name: "sized16-128",
        what: "operator new and sized delete of 16, 32, … 128 bytes in turn",
        empty: 3.0,
        bytes: 72,
    },
    Pattern { name: "batch512", what: "512 blocks of 64 bytes, freed in order: a pair of them", empty: 3.0, bytes: 64 },
    Pattern {
        name: "shuffled512",
        what: "512 blocks of 1 to 1024 bytes, freed in random order: a pair of them",
        empty: 3.0,
        bytes: 512,
    },
    Pattern { name: "pair16K", what: "malloc and free of 16 KiB", empty: 3.0, bytes: 16 << 10 },
    Pattern { name: "pair64K", what: "malloc and free of 64 KiB", empty: 3.0, bytes: 64 << 10 },
    Pattern {
        name: "regrow4K",
        what: "malloc of 16 bytes, doubled by realloc to 4 KiB in eight steps, free",
        empty: 2.0 + 8.0 * 2.0 + 1.0,
        bytes: 8 << 10,
    },
];

/// Operations before the count starts: caches are filled, lazily bound symbols are bound.
const WARM: u64 = 20_480;
/// Operations in a counted segment, a multiple of 512.
const COUNT: u64 = 20_480;
/// Segments; the least is reported. Housekeeping by the clock falls into some segments and not into others, and the
/// first one binds what the requests to callgrind need.
const SEGMENTS: u32 = 3;
/// Bytes in a segment where allocations are sampled, enough for 128 samples at an interval of 512 KiB: the count then
/// is within a tenth of the price of sampling of its mean.
const SAMPLED_BYTES: u64 = 64 << 20;

/// A count or a time of one pattern under one allocator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Instructions for each operation, harness included.
    pub gross: f64,
    /// The same without the harness.
    pub net: f64,
    /// Nanoseconds for each operation, harness included, where they were asked for.
    pub nanoseconds: Option<f64>,
}

/// The compiled driver.
#[derive(Debug)]
pub struct Driver {
    plain: PathBuf,
    emptied: PathBuf,
    directory: PathBuf,
    /// Instructions of each pattern outside of the allocator, once they have been counted.
    harness: RefCell<BTreeMap<&'static str, f64>>,
}

impl Driver {
    /// Compiles the driver and its harness count below `target`.
    pub fn build(target: &Path) -> Outcome<Driver> {
        let directory = workshop(target)?;
        let empty = directory.join("empty.so");
        compile("fast_path/empty.c", &empty, &["-shared", "-fPIC"])?;
        let plain = directory.join("driver");
        compile("fast_path/driver.cc", &plain, &[])?;
        let emptied = directory.join("driver-empty");
        let empty = empty.to_str().ok_or_else(|| Failure(format!("{} is not UTF-8", empty.display())))?;
        // Linked, not preloaded: valgrind's launcher could not live on it.
        compile("fast_path/driver.cc", &emptied, &["-Wl,--no-as-needed", empty])?;
        Ok(Driver { plain, emptied, directory, harness: RefCell::default() })
    }

    /// The cost of a pattern under an allocator.
    pub fn cost(&self, pattern: &Pattern, allocator: &Allocator, is_timed: bool) -> Outcome<Cost> {
        let harness = self.harness(pattern)?;
        let gross = self.count(&self.plain, pattern, allocator)?;
        let nanoseconds = if is_timed { Some(self.time(pattern, allocator)?) } else { None };
        Ok(Cost { gross, net: gross - harness, nanoseconds })
    }

    /// Instructions of the loop, the PLT and the tables for each operation.
    fn harness(&self, pattern: &Pattern) -> Outcome<f64> {
        if let Some(&known) = self.harness.borrow().get(pattern.name) {
            return Ok(known);
        }
        let nothing = Allocator { name: "empty".into(), preload: None, variables: Vec::new() };
        let counted = self.count(&self.emptied, pattern, &nothing)? - pattern.empty;
        self.harness.borrow_mut().insert(pattern.name, counted);
        Ok(counted)
    }

    /// Instructions for each operation, harness included.
    fn count(&self, program: &Path, pattern: &Pattern, allocator: &Allocator) -> Outcome<f64> {
        let operations = if allocator.is_sampling() {
            (SAMPLED_BYTES / pattern.bytes).next_multiple_of(512).max(COUNT)
        } else {
            COUNT
        };
        let stem = format!("callgrind-{}-{}-{}.out", std::process::id(), allocator.name, pattern.name);
        let output = self.directory.join(&stem);
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--quiet"]).arg(format!("--callgrind-out-file={}", output.display()));
        command.arg(program).arg(pattern.name);
        command.args([WARM.to_string(), operations.to_string(), SEGMENTS.to_string()]);
        allocator.dress(&mut command);
        let answer = command
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Failure(format!("valgrind cannot be run: {error} (Debian's package valgrind)")))?;
        let totals: Vec<u64> = (1..=SEGMENTS)
            .filter_map(|number| {
                let path = self.directory.join(format!("{stem}.{number}"));
                let text = fs::read_to_string(&path).ok()?;
                let _ = fs::remove_file(path);
                text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
            })
            .collect();
        let _ = fs::remove_file(&output);
        match totals.iter().min() {
            Some(&least) if answer.status.success() && totals.len() == SEGMENTS as usize => {
                Ok(least as f64 / operations as f64)
            }
            _ => {
                let complaint = String::from_utf8_lossy(&answer.stderr);
                let last = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
                fail(format!("{} under valgrind: {}: {last}", allocator.name, answer.status))
            }
        }
    }

    /// Nanoseconds for each operation, harness included: the best of many short segments.
    fn time(&self, pattern: &Pattern, allocator: &Allocator) -> Outcome<f64> {
        let mut command = Command::new(&self.plain);
        command.args([pattern.name, "20480", "204800", "50"]);
        allocator.dress(&mut command);
        let answer = command.stdin(Stdio::null()).output().map_err(|error| Failure(error.to_string()))?;
        let text = String::from_utf8_lossy(&answer.stdout);
        let value = text.trim().parse().ok().filter(|_| answer.status.success());
        value.ok_or_else(|| Failure(format!("{}: the driver ended with {}", allocator.name, answer.status)))
    }
}
