//! The crate as a dependency of a Rust program outside of this repository, with that program's own build settings.

use std::fs;

use heapsift_tests::artifacts::{Scratch, repository};
use heapsift_tests::dump::{final_dump, only};
use heapsift_tests::{Dump, Program};

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

fn main() {
    leak();
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
    let program = Program::new(scratch.join("target/release/outside"));
    let conf = format!("{},prof_sample:1024,no_such_option:1", final_dump(scratch.path(), "prof_peak:false"));
    let ended = program.env("MALLOC_CONF", conf).run().expect_success();
    assert_eq!(ended.text(), "done\n");
    assert!(ended.complaints().contains("Invalid conf pair: no_such_option:1"), "{}", ended.complaints());
    let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
    let is_leak = |row| dump.names(row).any(|name| name == "outside::leak");
    assert!(dump.profile.sample.iter().any(is_leak), "the block's stack is not in the profile");
}
