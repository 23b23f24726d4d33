//! The crate as a dependency of a Rust program outside of this repository, with that program's own build settings.

use std::fs;

use heapsift_tests::artifacts::{Scratch, repository};
use heapsift_tests::dump::{final_dump, only};
use heapsift_tests::{Dump, Program, command};

const MANIFEST: &str = r#"
[package]
name = "outside"
edition = "2024"

[dependencies]
heapsift = { path = "{crate}" }

[profile.release]
debug = "line-tables-only"

[workspace]
"#;

const MAIN: &str = r#"
#[global_allocator]
static GLOBAL: heapsift::Heapsift = heapsift::Heapsift;

#[inline(never)]
fn leak() {
    std::mem::forget(vec![1u8; 8 << 20]);
}

#[inline(never)]
fn make() -> Vec<u8> {
    vec![1u8; 8 << 20]
}

#[inline(never)]
fn give_back(bytes: Vec<u8>) {
    drop(std::hint::black_box(bytes));
}

fn main() {
    leak();
    give_back(make());
    let lives = heapsift::profile::dump_kind_to_vec(heapsift::profile::Kind::Lifetime).expect("a profile");
    std::fs::write("lives.pb.gz", lives).expect("a file");
    println!("done");
}
"#;

#[test]
fn a_program_that_depends_on_the_crate_links_and_is_profiled() {
    let scratch = Scratch::new("dependency");
    fs::create_dir(scratch.join("src")).expect("a directory");
    let manifest = MANIFEST.replace("{crate}", &repository().join("profiler").display().to_string());
    fs::write(scratch.join("Cargo.toml"), manifest).expect("written");
    fs::write(scratch.join("src/main.rs"), MAIN).expect("written");
    // The versions of this repository's build, which are there.
    fs::copy(repository().join("Cargo.lock"), scratch.join("Cargo.lock")).expect("copied");
    // Cargo's own defaults otherwise: several objects for each crate, and no optimization across crates.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    Program::new(cargo)
        .args(["build", "--release", "--quiet", "--offline"])
        .directory(scratch.path())
        .env("CARGO_TARGET_DIR", scratch.join("target"))
        .run()
        .expect_success();
    let program = Program::new(scratch.join("target/release/outside")).directory(scratch.path());
    let conf = final_dump(scratch.path(), "prof_sample:1024,prof_lifetime_frees:true,no_such_option:1");
    let ended = program.env("MALLOC_CONF", conf).run().expect_success();
    assert_eq!(ended.text(), "done\n");
    assert!(ended.complaints().contains("Invalid conf pair: no_such_option:1"), "{}", ended.complaints());
    let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
    let is_leak = |row| dump.names(row).any(|name| name == "outside::leak");
    assert!(dump.profile.sample.iter().any(is_leak), "the block's stack is not in the profile");
    // The allocator's own frames and those between it and the program are left out at the leaf.
    let folded = Program::new(command()).args(["convert", "--to", "folded"]).arg(scratch.join("lives.pb.gz")).run();
    let folded = folded.expect_success().text();
    let is_given_back = |line: &str| {
        let stack = line.rsplit_once(' ').map_or(line, |(stack, _)| stack);
        let (born, freed) = stack.split_once(";[freed by];").unwrap_or((stack, ""));
        let is_cut = ["alloc_core", "heapsift", "_dealloc"].iter().all(|name| !freed.contains(name));
        born.contains(";outside::make") && freed.contains(";outside::give_back") && is_cut
    };
    assert!(folded.lines().any(is_given_back), "{folded}");
}
