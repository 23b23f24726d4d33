//! Resident memory told part by part, of a redis whose heap is full of holes.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::{Dump, Program, by_length, redis, tools};

/// Resident bytes of a process.
fn resident(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process lives");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok()).expect("a number of pages") * 4096.0
}

/// The one file in a directory whose name ends so.
fn ending(directory: &Path, end: &str) -> PathBuf {
    let entries = fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable").path());
    let found: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(end)).collect();
    assert_eq!(found.len(), 1, "{end}: {found:?}");
    found.into_iter().next().expect("one")
}

/// Sum of the rows with a frame of that name.
fn part(dump: &Dump, name: &str) -> i64 {
    let rows = dump.profile.sample.iter().filter(|row| dump.names(row).any(|frame| frame == name));
    rows.map(|row| row.value[0]).sum()
}

#[test]
fn the_parts_of_a_fragmented_redis_add_up_to_its_resident_memory() {
    let Some(cli) = tools::need("redis-cli") else { return };
    let scratch = Scratch::new("waterfall");
    let conf = format!("prof:true,prof_seed:7,prof_sample:64KiB,prof_prefix:{}/dump", scratch.path().display());
    let dress = |server: Program| tools::dumping_at_exit(server.under(conf), "prof.rss_dump prof.slack_dump");
    let Some((server, socket)) = redis::serve(scratch.path(), dress) else { return };
    // Fill, and delete 70 of 100 keys at random.
    let keys: u32 = by_length(120_000, 2_000_000);
    let mut commands = String::new();
    for key in 0..keys {
        let length = 40 + key.wrapping_mul(2_654_435_761) % 400;
        writeln!(commands, "SET key:{key} {}", "v".repeat(length as usize)).expect("a string takes all");
    }
    for key in (0..keys).filter(|key| (key.wrapping_mul(2_246_822_519) >> 8) % 10 < 7) {
        writeln!(commands, "DEL key:{key}").expect("a string takes all");
    }
    fs::write(scratch.join("commands"), &commands).expect("a scratch file");
    let cli = Program::new(&cli).arg("-s").arg(&socket).input(&scratch.join("commands"));
    cli.within(Duration::from_secs(900)).run().expect_success();
    // Idle.
    std::thread::sleep(Duration::from_secs(2));
    let outside = resident(server.pid());
    assert_eq!(server.stop(libc::SIGTERM), 0, "redis-server");

    let dump = Dump::read(&ending(scratch.path(), ".rss.pb.gz"));
    assert_eq!(dump.text(dump.profile.default_sample_type), "rss_space");
    let sum: i64 = dump.profile.sample.iter().map(|row| row.value[0]).sum();
    let told = dump.profile.allocator_stats.as_ref().expect("every dump of ours has them").rss;
    for (what, whole) in [("as seen from outside", outside), ("as the mappings tell", told as f64)] {
        let ratio = sum as f64 / whole;
        assert!((0.97..1.03).contains(&ratio), "the parts are {sum}, resident memory {whole} {what}");
    }
    let part = |name: &str| part(&dump, name);
    // Holes make a good part of it.
    let (used, slack) = (part("[in use]"), part("[slab slack]"));
    assert!(used > sum / 10 && slack > sum / 5, "{used} in use, {slack} slack, of {sum}");
    for name in
        ["[rounding to size classes]", "[thread caches]", "[allocator metadata]", "[profiler tables]", "[other memory]"]
    {
        assert!(part(name) > 0, "no {name}");
    }
    assert!(part("[allocated, not resident]") <= 0);
    // Slack by stack is the same sum.
    let slacks = Dump::read(&ending(scratch.path(), ".slack.pb.gz"));
    let space: i64 = slacks.profile.sample.iter().map(|row| row.value[1]).sum();
    assert!((space as f64 / slack as f64 - 1.0).abs() < 0.02, "{space} of slack, {slack} in the waterfall");
}

#[test]
fn memory_of_the_program_is_not_called_the_allocators() {
    parts(&[]);
}

#[test]
fn nor_is_memory_that_lies_where_the_page_map_was() {
    parts(&["16000"]);
}

/// Runs `c/parts.c`, and looks at where its memory is told to be.
#[track_caller]
fn parts(args: &[&str]) {
    let scratch = Scratch::new("parts");
    let program = Program::new(tools::compile("c/parts.c", &["-pthread"])).args(args);
    let ended = tools::dumping_at_exit(program, "prof.rss_dump")
        .under(format!("prof:true,thp:never,prof_prefix:{}/dump", scratch.path().display()))
        .run()
        .expect_success();
    let truth: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("it prints JSON");
    let (stacks, read) = (truth["stacks"].as_i64().expect("a number"), truth["read"].as_i64().expect("a number"));
    let dump = Dump::read(&ending(scratch.path(), ".rss.pb.gz"));
    let other = |name: &str| -> i64 {
        let named = |row: &&_| dump.names(row).eq([name, "[other memory]"]);
        dump.profile.sample.iter().filter(named).map(|row| row.value[0]).sum()
    };
    let anonymous = other("[anonymous]");
    assert!(anonymous > stacks && anonymous < stacks + (4 << 20), "{anonymous} without a name, stacks are {stacks}");
    let absent = part(&dump, "[allocated, not resident]");
    assert!(absent < -read && absent > -read - (8 << 20), "{absent} not resident, {read} were only read");
    let metadata = part(&dump, "[allocator metadata]");
    assert!(metadata > 0 && metadata < stacks / 2, "{metadata} of the allocator's own");
    let sum: i64 = dump.profile.sample.iter().map(|row| row.value[0]).sum();
    assert_eq!(sum.cast_unsigned(), dump.profile.allocator_stats.as_ref().expect("every dump of ours has them").rss);
}
