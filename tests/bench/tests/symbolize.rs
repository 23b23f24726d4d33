//! Names of addresses against llvm-symbolizer: the same functions, inlined ones too, of C++ and of Rust.

use std::fs;
use std::path::Path;
use std::process::Command;

use bench::viewer::{agreement, inputs};
use heapsift_tests::artifacts::{Scratch, target_directory};
use heapsift_tests::{by_length, command, tools};

/// Compares `count` addresses of a program.
fn agree(symbolizer: &Path, program: &Path, count: usize) -> agreement::Agreement {
    let scratch = Scratch::new("agree");
    let addresses = inputs::addresses(program, count, 7).expect("the program has symbols");
    let list = scratch.join("addresses");
    fs::write(&list, addresses.iter().map(|address| format!("{address:#x}\n")).collect::<String>()).expect("a file");
    let profile = scratch.join("a.pb.gz");
    let message = inputs::profile(program, &addresses).expect("the program has a build id, or needs none");
    fs::write(&profile, pprof_export::encode_gzip(&message)).expect("a file");
    let named = scratch.join("named.pb.gz");
    let output = Command::new(command()).arg("symbolize").arg(&profile).arg("-o").arg(&named).output();
    let output = output.expect("the command runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = agreement::llvm(&symbolizer.to_string_lossy(), program, &list).expect("llvm-symbolizer answers");
    let found = agreement::compare(agreement::named(&named).expect("a profile"), theirs).expect("an answer each");
    for (position, ours, theirs) in &found.differing {
        println!("{:#x}\n  {ours:?}\n  {theirs:?}", addresses[*position]);
    }
    let agreement::Agreement { all, same_inlines, same_functions, same_lines, .. } = found;
    println!("{}: of {all} {same_inlines}, {same_functions}, {same_lines} the same", program.display());
    assert!(same_inlines * 1000 >= all * 999, "{same_inlines} of {all}");
    assert!(same_functions * 100 >= all * 98, "{same_functions} of {all}");
    // Where a unit has no lines, llvm-symbolizer takes the file that the symbol table names.
    assert!(same_lines * 100 >= all * 95, "{same_lines} of {all}");
    found
}

#[test]
fn inlined_functions_are_those_that_llvm_symbolizer_finds() {
    let Some(symbolizer) = tools::need("llvm-symbolizer") else { return };
    let workshop = bench::workshop(&target_directory()).expect("the target directory can be written");
    let (levels, copies, count) = by_length((1, 3, 3000), (4, 36, 10_000));
    let program = inputs::program(&workshop, levels, copies).expect("g++ and binutils make it");
    let found = agree(&symbolizer, &program, count);
    // Or there would be nothing to compare.
    assert!(found.frames > 1.2, "{} frames", found.frames);
}

#[test]
fn so_they_are_in_a_program_of_many_crates() {
    let Some(symbolizer) = tools::need("llvm-symbolizer") else { return };
    // This test itself, with all that it is made of.
    let program = std::env::current_exe().expect("a process knows its file");
    let found = agree(&symbolizer, &program, by_length(2000, 10_000));
    assert!(found.frames > 1.2, "{} frames", found.frames);
}
