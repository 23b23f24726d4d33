//! What compilers have nothing to do with: what linkers leave of functions that they have thrown away, and assembly.

use std::fs;
use std::process::Command;

use super::{TempDir, both_ways, tool};

/// Longer than what lies before the code of a program.
const UNUSED: &str = "int unused(int n) { __asm__ volatile(\".skip 65536, 0x90\"); return n; }\n";
const USED: &str = "__attribute__((noinline)) int work(int n) { __asm__ volatile(\"\"); return n * 7; }\n\
                    int main(int n, char **all) { return work(n) + (all != 0); }\n";

/// Addresses in a function of a program.
fn addresses_of(program: &str, function: &str) -> Vec<u64> {
    let symbols = tool("nm", &["-S", program]).unwrap();
    let line = symbols.lines().find(|line| line.split(' ').nth(3) == Some(function)).unwrap();
    let numbers: Vec<u64> = line.split(' ').take(2).map(|word| u64::from_str_radix(word, 16).unwrap()).collect();
    (numbers[0]..numbers[0] + numbers[1]).collect()
}

#[test]
fn what_was_thrown_away_names_nothing() {
    let scratch = TempDir::with_prefix("heapsift-linked-").unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (first, second, both) = (at("first.c"), at("second.c"), at("both.c"));
    fs::write(&first, UNUSED).unwrap();
    fs::write(&second, USED).unwrap();
    fs::write(&both, [UNUSED, USED].concat()).unwrap();
    for linker in ["bfd", "gold", "lld"] {
        for version in ["-gdwarf-4", "-gdwarf-5"] {
            // In a unit before that of the code that is there, and in the same one.
            for (sources, line) in [(&[&first, &second][..], 1), (&[&both], 2)] {
                let program = at(&format!("{linker}{version}{line}"));
                let with = format!("-fuse-ld={linker}");
                let mut command = Command::new("gcc");
                command.args([&with, version, "-O1", "-ffunction-sections", "-Wl,--gc-sections", "-o", &program]);
                if !command.args(sources).output().is_ok_and(|output| output.status.success()) {
                    println!("left out: no gcc with {linker}");
                    continue;
                }
                for (function, line) in [("work", line), ("main", line + 1)] {
                    for (address, frames, _) in both_ways(program.as_ref(), &addresses_of(&program, function)) {
                        let found: Vec<_> = frames.iter().map(|frame| (&*frame.function, frame.line)).collect();
                        assert_eq!(found, [(function, line)], "{program}: {address:#x}");
                    }
                }
            }
        }
    }
}

#[test]
fn functions_in_assembly_need_no_type() {
    let assembly = "
        .text
        .globl typed, plain, last
        .type typed, @function
        typed: ret
        inside: nop
        .size typed, . - typed
        nop
        plain: nop
        .Lplace: nop
        plain.loop: ret
        .type unsized, @function
        unsized: ret
        last: ret
        .data
        datum: .quad 0
    ";
    let scratch = TempDir::with_prefix("heapsift-assembly-").unwrap();
    let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (source, library, stripped) = (at("a.s"), at("a.so"), at("stripped.so"));
    fs::write(&source, assembly).unwrap();
    let words = ["-shared", "-nostdlib", "-Wa,-L", "-o", &library, &source];
    if tool("gcc", &words).is_none() || tool("strip", &["-o", &stripped, &library]).is_none() {
        println!("skipped: gcc or binutils are not installed");
        return;
    }
    let start = addresses_of(&library, "typed")[0];
    let code: Vec<u64> = (start..start + 8).collect();
    let names = |library: &str| -> Vec<String> {
        let found = both_ways(library.as_ref(), &code);
        found.iter().map(|(_, frames, _)| frames.first().map_or("", |frame| &frame.function).to_owned()).collect()
    };
    assert_eq!(names(&library), ["typed", "typed", "", "plain", "plain", "plain", "unsized", "last"]);
    // Those that others may call are left.
    assert_eq!(names(&stripped), ["typed", "typed", "", "plain", "plain", "plain", "plain", "last"]);
}
