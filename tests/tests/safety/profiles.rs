//! Rows P3, P6, D6, K1: what the profiler knows when threads and blocks come and go.

use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, final_dump, only};
use heapsift_tests::safety::{Who, holds, told};
use heapsift_tests::{Dump, Program, by_length, tools};

#[test]
fn p3_samples_are_freed_by_others_during_dumps_and_resets() {
    let program = tools::compile("c/balance.c", &["-ldl"]);
    let (ops, rounds) = by_length(("15000", "8"), ("100000", "50"));
    let scratch = Scratch::new("p3");
    let conf = final_dump(scratch.path(), "prof_sample:1,prof_keep:2");
    let ended = Program::new(&program)
        .args(["4", ops, rounds])
        .within(Duration::from_secs(1200))
        .under(conf)
        .run()
        .expect_success();
    let dump = Dump::read(&only(scratch.path(), 'f'));
    // The C library keeps the stacks of threads that have ended, and a block for each.
    let left = dump.total(Column::InuseObjects);
    assert!(dump.total(Column::AllocObjects) > 10_000);
    let count = 4.0 * 1.125 * ops.parse::<f64>().expect("a number") * rounds.parse::<f64>().expect("a number") / 1e6;
    let text = format!(
        "{count:.1} million operations, {}: {left} in use at the end, for 4 stacks that the C library keeps",
        ended.text().trim()
    );
    told("P3", "", Who::Heapsift, &text, left <= 4);
}

#[test]
fn p6_a_million_stacks() {
    let program = tools::compile("c/steps.c", &[]);
    let scratch = Scratch::new("p6");
    let count = by_length(300_000, 1_000_000);
    let run = |step: &str, count: u32| {
        let words = [step, &count.to_string(), "free", "dump", "p6.heap.pb.gz"];
        let run = Program::new(&program).args(words).directory(scratch.path()).within(Duration::from_secs(300));
        run.under("prof:true,prof_sample:1,prof_final:false,dirty_decay_ms:0").run().expect_success();
        Dump::read(&scratch.join("p6.heap.pb.gz"))
    };
    // What is resident when all blocks have been freed and given back is the profiler's.
    let resident = |dump: &Dump| {
        let stats = dump.profile.allocator_stats.as_ref().expect("every dump of ours has them");
        stats.rss as f64 / 1048576.0
    };
    let few = resident(&run("stacks", 10));
    // The tables have room for 62 MiB together; and there may be a record for each block that was live at once, in a table that
    // is half full at least.
    let record = 112.0 / 1048576.0;
    for (part, step, most) in [
        ("one block after the other", "passing", 64.0),
        ("all live at once", "stacks", 64.0 + record * f64::from(count)),
    ] {
        let many = run(step, count);
        // Nothing that was sampled is lost: what there was no room for stands without a stack.
        let allocated = many.total(Column::AllocObjects);
        assert!(allocated >= count.into(), "{allocated}");
        let without = many.sum(Column::AllocObjects, |row| row.location_id.len() <= 1);
        assert!(without > 0, "all stacks had room");
        let stacks = many.profile.sample.iter().filter(|row| row.location_id.len() > 1).count();
        let grown = resident(&many) - few;
        let text = format!(
            "{count} stacks: {stacks} rows, {without} blocks in one row without a stack; {grown:.0} MiB more of memory"
        );
        told("P6", part, Who::Heapsift, &text, grown <= most);
    }
}

#[test]
fn d6_nobody_waits_for_a_dump() {
    let program = tools::compile("c/latency.c", &["-ldl"]);
    let threads = by_length("8", "64");
    let measure = |dumps: &str| -> [f64; 4] {
        let scratch = Scratch::new("d6");
        let conf = format!("prof:true,prof_sample:64KiB,prof_final:false,prof_prefix:{}/d", scratch.path().display());
        // 100 000 live samples, made at an interval of one byte.
        let conf = format!("{conf},prof_sample:1");
        let run = Program::new(&program).args(["100000", threads, dumps]).within(Duration::from_secs(300));
        let text = run.under(&conf).run().expect_success().text();
        ["slept", "pairs", "longest", "dump"].map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("all four lines");
            line.trim().parse().expect("a number")
        })
    };
    let ([_, pairs_before, longest_before, _], [slept, pairs, longest, dump]) =
        (measure("0"), measure(by_length("3", "20")));
    assert!(pairs_before > 0.0);
    let text = format!(
        "100 000 live samples, {threads} threads, {:.0} ms for a dump: {slept} waits in {pairs} pairs of calls; the longest 16 pairs \
         took {:.1} ms, {:.1} without dumps",
        dump / 1e3,
        longest / 1e3,
        longest_before / 1e3
    );
    // By the clock, threads that are more than the processors wait for these, with dumps or without: what is judged is how
    // often one waits for another.
    told("D6", "", Who::Heapsift, &text, slept * 100.0 <= pairs);
}

#[test]
fn k1_planted_leaks_are_found() {
    let program = tools::compile("c/steps.c", &[]);
    let scratch = Scratch::new("k1");
    let conf = final_dump(scratch.path(), "prof_sample:1,prof_leak:true");
    let run = Program::new(&program).args(["alloc", "4", "free", "stacks", "100"]).under(&conf);
    let ended = run.run().expect_success();
    let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
    // Each of the hundred, by its own stack, once; the rest is the program's own list of what it keeps, and stdio's buffer.
    let of_leaks = |names: &[&str]| names.contains(&"left") && names.contains(&"main");
    let rows: Vec<i64> = dump
        .profile
        .sample
        .iter()
        .filter(|row| row.value[Column::InuseObjects as usize] > 0 && of_leaks(&dump.names(row).collect::<Vec<_>>()))
        .map(|row| row.value[Column::InuseObjects as usize])
        .collect();
    assert_eq!((rows.len(), rows.iter().sum::<i64>()), (100, 100));
    assert!(ended.complaints().contains("Leak approximation summary"), "{}", ended.complaints());
    // And a program that frees all has nothing of its own in use.
    let scratch = Scratch::new("k1-none");
    let conf = final_dump(scratch.path(), "prof_sample:1");
    Program::new(&program).args(["stacks", "100", "alloc", "4", "free"]).under(&conf).run().expect_success();
    let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
    let left = dump.of_function(Column::InuseObjects, "left") + dump.of_function(Column::InuseObjects, "allocate");
    assert_eq!(left, dump.of_function(Column::InuseObjects, "keep"), "the list of what is kept, and nothing else");
    holds("K1", "100 leaks planted, 100 found, each by its own stack");
}
