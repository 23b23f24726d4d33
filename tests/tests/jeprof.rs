//! Dumps in jemalloc's format: what its own reader, and ours, make of them.

use std::path::Path;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::{Dump, Program, command, tools};

/// Totals of `jeprof --text`: of all, and of one function.
fn jeprof(jeprof: &Path, program: &Path, dump: &Path, option: &str, function: &str) -> (f64, f64) {
    let ended =
        Program::new(jeprof).args(["--text", "--show_bytes", option]).arg(program).arg(dump).run().expect_success();
    let text = ended.text();
    let number = |line: &str| {
        let word = line.split_whitespace().find(|word| word.parse::<f64>().is_ok()).expect("a number");
        word.parse::<f64>().expect("as found")
    };
    let total = text.lines().find(|line| line.starts_with("Total:")).unwrap_or_else(|| panic!("no total in {text}"));
    let line = text.lines().find(|line| line.split_whitespace().last() == Some(function));
    (number(total), number(line.unwrap_or_else(|| panic!("no {function} in {text}"))))
}

#[test]
fn jeprof_and_our_reader_see_what_pprof_dumps_say() {
    let Some(reader) = tools::need("jeprof") else { return };
    let program = tools::compile("c/sites.c", &[]);
    let scratch = Scratch::new("jeprof");
    // The same seed: the same samples.
    let run = |more: &str| {
        let conf = final_dump(scratch.path(), &format!("prof_seed:5,prof_sample:64KiB{more}"));
        Program::new(&program).under(conf).run().expect_success();
    };
    run("");
    run(",prof_format:heap_v2");
    let reference = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
    let entries = std::fs::read_dir(scratch.path()).expect("readable").map(|entry| entry.expect("readable").path());
    let texts: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(".f.heap")).collect();
    let [text] = &texts[..] else { panic!("dumps as text: {texts:?}") };

    let near = |found: f64, wanted: i64, what: &str| {
        let wanted = wanted as f64;
        assert!(
            wanted > 0.0 && (found / wanted - 1.0).abs() < 1e-5,
            "{what}: {found}, where {wanted} was dumped as pprof"
        );
    };
    for (option, column) in [("--inuse_space", Column::InuseSpace), ("--alloc_space", Column::AllocSpace)] {
        for site in ["site_16", "site_4k", "site_300k", "site_mix"] {
            let (total, of_site) = jeprof(&reader, &program, text, option, site);
            near(total, reference.total(column), option);
            near(of_site, reference.of_function(column, site), site);
        }
    }
    // Blocks of one size: their number, too.
    let (_, objects) = jeprof(&reader, &program, text, "--inuse_objects", "site_4k");
    assert!((objects / reference.of_function(Column::InuseObjects, "site_4k") as f64 - 1.0).abs() < 1e-3);

    let converted = scratch.join("converted.pb.gz");
    Program::new(command())
        .args(["convert", "--to", "pprof"])
        .arg(text)
        .arg("-o")
        .arg(&converted)
        .run()
        .expect_success();
    let ours = Dump::symbolized(&converted, &scratch.join("converted-named.pb.gz"));
    near(ours.total(Column::InuseSpace) as f64, reference.total(Column::InuseSpace), "our reader");
    near(
        ours.of_function(Column::InuseSpace, "site_mix") as f64,
        reference.of_function(Column::InuseSpace, "site_mix"),
        "mix",
    );
}
