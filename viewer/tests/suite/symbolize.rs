//! `symbolize`: a copy with names, written whole or not at all.

use std::fs;

use crate::support::{Builder, Scratch, heapsift, output_of, service};

/// A profile of this very test program, with one address in its `main`.
fn of_this_program() -> Builder {
    let mut builder = Builder::new();
    let program = std::env::current_exe().unwrap();
    // Where the loader put it, from the kernel's own list.
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps
        .lines()
        .find(|line| line.contains(program.to_str().unwrap()) && line.contains("r-xp"))
        .unwrap();
    let mut fields = line.split_whitespace();
    let (start, limit) = fields.next().unwrap().split_once('-').unwrap();
    let offset = fields.nth(1).unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let id = builder.mapping(program.to_str().unwrap(), hex(start), "");
    let mapping = &mut builder.profile.mapping[id as usize - 1];
    (mapping.memory_limit, mapping.file_offset) = (hex(limit), hex(offset));
    let address = of_this_program as *const () as u64 + 1;
    let location = builder.location(address, &[]);
    builder.sampled(&[location], 4096, 10);
    builder
}

#[test]
fn a_copy_has_names() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &of_this_program().gzip());
    let out = scratch.join("named.pb.gz");
    output_of(&["symbolize", &file, "-o", &out]);
    let table = output_of(&["top", "--symbolize=none", &out]);
    assert!(table.contains("of_this_program"), "{table}");
    assert!(table.contains("suite/symbolize.rs:"), "{table}");
    // On the fly it is the same.
    assert_eq!(table, output_of(&["top", &file]));
}

#[test]
fn the_profile_itself_is_replaced_only_when_asked() {
    let scratch = Scratch::new();
    let before = of_this_program().gzip();
    let file = scratch.file("a.pb.gz", &before);
    for same in [
        file.clone(),
        scratch.join("../").trim_end_matches("../").to_owned() + "a.pb.gz",
    ] {
        let output = heapsift(&["symbolize", &file, "-o", &same]);
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("use --in-place"), "{errors}");
    }
    assert_eq!(fs::read(&file).unwrap(), before);
    output_of(&["symbolize", "--in-place", &file]);
    assert!(output_of(&["top", "--symbolize=none", &file]).contains("of_this_program"));
    assert_eq!(
        heapsift(&["symbolize", &file]).status.code(),
        Some(2),
        "where to is not said"
    );
}

#[test]
fn the_allocators_numbers_are_kept() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let out = scratch.join("b.pb.gz");
    output_of(&["symbolize", &file, "-o", &out]);
    assert!(output_of(&["info", &out]).contains("allocated            40MB"));
}
