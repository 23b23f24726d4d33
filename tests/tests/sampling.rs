//! How often blocks are sampled: as often as the interval says, from the first byte on, and no more.

use std::path::Path;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::statistics::{chance, failures_allowed};
use heapsift_tests::{Dump, Program, by_length, tools};

/// Samples behind all in-use rows of blocks that a program allocates and keeps.
fn samples(program: &Path, count: u64, size: u64, options: &str) -> f64 {
    let scratch = Scratch::new("sampling");
    Program::new(program)
        .args([count.to_string(), size.to_string()])
        .under(final_dump(scratch.path(), options))
        .run()
        .expect_success();
    let dump = Dump::read(&only(scratch.path(), 'f'));
    dump.profile.sample.iter().map(|row| dump.samples(row, Column::InuseObjects)).sum()
}

#[test]
fn a_small_program_has_no_sample_at_a_large_interval() {
    let program = tools::compile("c/blocks.c", &[]);
    // 80 KiB at one sample per GiB: 1 run in 13 000 may have one.
    let with_samples = (0..100).filter(|_| samples(&program, 1280, 64, "lg_prof_sample:30") > 0.0).count();
    assert!(with_samples <= 1, "{with_samples} of 100 runs had a sample");
}

#[test]
fn the_number_of_samples_follows_the_interval() {
    let program = tools::compile("c/blocks.c", &[]);
    let interval = 4096.0;
    let mut beyond = 0;
    let (mut all, mut all_expected, mut all_variance) = (0.0, 0.0, 0.0);
    let sizes = [(1280, 64), (50_000, 64), (50_000, 16), (20_000, 1024), (5_000, 4096), (1_000, 20_480)];
    let rounds = by_length(2, 20);
    for option in ["lg_prof_sample:12", "prof_sample:4KiB"].repeat(rounds) {
        for (count, size) in sizes {
            let found = samples(&program, count, size, option);
            let p = chance(size as f64, interval);
            let (expected, variance) = (count as f64 * p, count as f64 * p * (1.0 - p));
            // The C library's own few blocks and the rounding of estimates: one sample more or less.
            let error = ((found - expected).abs() - 1.0).max(0.0) / variance.sqrt();
            assert!(error < 5.0, "{option}, {count} blocks of {size}: {found} samples, expected {expected:.1}");
            beyond += u32::from(error > 3.0);
            (all, all_expected, all_variance) = (all + found, all_expected + expected, all_variance + variance);
        }
    }
    let runs = u32::try_from(sizes.len() * rounds * 2).expect("few runs");
    assert!(beyond <= failures_allowed(runs, 0.0027, 1e-4), "{beyond} of {runs} runs beyond 3 standard deviations");
    let error = (all - all_expected) / all_variance.sqrt();
    assert!(error.abs() < 4.0, "{all} samples in all, expected {all_expected:.1}");
}

#[test]
fn nothing_is_sampled_while_profiling_is_off() {
    let program = tools::compile("c/blocks.c", &[]);
    let found = samples(&program, 10_000, 4096, "lg_prof_sample:12,prof_active:false");
    assert!(found < 0.5, "{found} samples");
}

#[test]
fn sampling_pauses_and_goes_on() {
    let program = tools::compile("c/pause.c", &[]);
    for name in ["prof.active", "prof.enable", "thread.prof.active", "prof.thread_active_init"] {
        let scratch = Scratch::new("pause");
        let conf = final_dump(scratch.path(), "prof_sample:1");
        Program::new(&program).arg(name).under(&conf).run().expect_success();
        let dump = Dump::read(&only(scratch.path(), 'f'));
        let kept = [64, 128, 256]
            .map(|kib: u64| dump.sum(Column::InuseObjects, |row| dump.number(row, "bytes") == Some(kib as i64 * 1024)));
        assert_eq!(kept, [100, 0, 100], "{name}");
    }
}

#[test]
fn each_block_is_sampled_at_an_interval_of_one_byte() {
    let program = tools::compile("c/blocks.c", &[]);
    let found = samples(&program, 5_000, 100, "lg_prof_sample:0");
    assert!((5_000.0..5_050.0).contains(&found), "{found} samples");
}

#[test]
fn who_was_told_of_a_sample_is_told_of_its_end() {
    let program = tools::compile("c/told.c", &["-ldl"]);
    let ended = Program::new(&program).under("prof:true,prof_sample:1,prof_stats:true").run().expect_success();
    let expected = "allocated: 0, 170000 bytes in 100 blocks, 0 ends\n\
                    resized: 0, 179000 bytes in 100 blocks, 0 ends\n\
                    freed: 0, 0 bytes in 0 blocks, 100 ends\n";
    assert_eq!(ended.text(), expected);
}

#[test]
fn a_wait_that_was_void_costs_no_block_its_chance() {
    let program = tools::compile("c/voided.c", &["-ldl"]);
    let conf = ["prof:true,prof_stats:true", "prof:true,prof_stats:true,prof_signal:SIGUSR2"];
    for (case, conf) in [("fork", conf[0]), ("fork", conf[1]), ("retune", conf[0])] {
        let ended = Program::new(&program).args([case]).under(conf).run().expect_success();
        assert_eq!(ended.text(), "201326592 bytes in 3 of 3 blocks\n", "{case} {conf}");
    }
}

#[test]
fn a_dump_is_from_before_a_reset_or_from_after_it() {
    let program = tools::compile("c/reset_race.c", &["-pthread"]);
    let scratch = Scratch::new("reset-race");
    let dumps = by_length(200, 5000);
    let program = Program::new(&program).arg(scratch.path()).arg(dumps.to_string());
    program.under("prof:true,prof_sample:64").run().expect_success();
    for number in 0..dumps {
        let dump = Dump::read(&scratch.join(format!("{number}.pb.gz")));
        let (in_use, allocated) = (dump.total(Column::InuseSpace), dump.total(Column::AllocSpace));
        assert!(in_use <= allocated, "{number}: {in_use} bytes in use of {allocated} that were allocated");
    }
}
