//! Arenas, caches, guard pages, sources of memory and background threads, as programs ask for them.

use std::path::Path;
use std::time::Duration;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{Column, dumps, final_dump};
use heapsift_tests::group::Group;
use heapsift_tests::{Dump, Program, tools};

/// Runs a part of `c/arenas.c` under these options.
#[track_caller]
fn holds(part: &str, conf: &str, directory: &Path) {
    let program = tools::compile("c/arenas.c", &["-ldl"]);
    Program::new(&program)
        .arg(part)
        .under(conf)
        .directory(directory)
        .within(Duration::from_secs(120))
        .run()
        .expect_success();
}

#[test]
fn guard_pages_stand_around_every_so_many_extents() {
    let scratch = Scratch::new("guards");
    let guards = "san_guard_large:2,san_guard_small:3,slab_sizes:4096-4096:1";
    for conf in [guards, &format!("{guards},dirty_decay_ms:0,retain:false")] {
        holds("guards", conf, scratch.path());
    }
}

#[test]
fn address_space_is_kept_or_given_back() {
    let scratch = Scratch::new("retain");
    holds("kept", "prof:false", scratch.path());
    holds("unmapped", "retain:false", scratch.path());
    holds("unmapped", "retain:false,muzzy_decay_ms:1000", scratch.path());
    holds("limited", "retain:false,dirty_decay_ms:-1", scratch.path());
}

#[test]
fn memory_comes_from_the_end_of_the_data_segment() {
    let scratch = Scratch::new("dss");
    for conf in ["prof:false", "retain:false", "dirty_decay_ms:0"] {
        holds("data-segment", conf, scratch.path());
    }
}

#[test]
fn requests_name_arenas_and_caches() {
    let scratch = Scratch::new("flags");
    for conf in ["prof:false", "prof:true,lg_prof_sample:10", "tcache:false"] {
        holds("flags", conf, scratch.path());
    }
}

#[test]
fn samples_go_with_the_arena_that_is_reset() {
    let scratch = Scratch::new("reset");
    holds("reset", "prof:true,lg_prof_sample:0", scratch.path());
    let of_reset = |name: &str| {
        let dump = Dump::read(&scratch.join(name));
        let sizes = |sample: &_| matches!(dump.number(sample, "bytes"), Some(512 | 20_480));
        (dump.sum(Column::InuseObjects, sizes), dump.sum(Column::AllocObjects, sizes))
    };
    let before = of_reset("before.pb.gz");
    assert!(before.0 >= 2000, "{before:?}");
    // Other blocks of these sizes there are few.
    let after = of_reset("after.pb.gz");
    assert!(after.0 <= before.0 - 2000 && after.1 >= before.1, "{before:?} {after:?}");
    assert!(of_reset("again.pb.gz").0 >= after.0 + 2000);
    assert!(of_reset("destroyed.pb.gz").0 <= after.0 + 10);
}

#[test]
fn a_thread_gives_back_what_it_no_longer_needs() {
    let scratch = Scratch::new("idle-cache");
    for conf in ["prof:false", "prof:true,prof_final:false"] {
        holds("idle-cache", conf, scratch.path());
    }
}

#[test]
fn many_threads_cache_no_more_than_few() {
    let scratch = Scratch::new("many-caches");
    holds("many-caches", "prof:false", scratch.path());
}

#[test]
fn background_threads_work_in_the_process_and_its_children() {
    let scratch = Scratch::new("background");
    for conf in ["background_thread:true", "background_thread:true,muzzy_decay_ms:100,narenas:8"] {
        holds("background", conf, scratch.path());
    }
}

#[test]
fn background_threads_sleep_while_there_is_nothing_for_them() {
    let scratch = Scratch::new("calm");
    holds("background-calm", "background_thread:true,max_background_threads:4,narenas:4", scratch.path());
}

#[test]
fn unused_pages_go_where_memory_is_short() {
    let Some(group) = Group::new(200 << 20) else { return tools::missing("a cgroup that can be written") };
    let scratch = Scratch::new("short");
    let script = format!("echo $$ > {} && exec \"$@\"", group.processes().display());
    Program::new("sh")
        .args(["-c", &script, "sh"])
        .arg(tools::compile("c/arenas.c", &["-ldl"]))
        .arg("background-short")
        .under("background_thread:true")
        .directory(scratch.path())
        .within(Duration::from_secs(120))
        .run()
        .expect_success();
}

#[test]
fn background_threads_start_and_stop_among_forks() {
    let scratch = Scratch::new("toggled");
    holds("background-toggled", "prof:false", scratch.path());
    holds("background-toggled", "max_background_threads:2,narenas:8", scratch.path());
}

#[test]
fn the_starting_of_the_librarys_threads_is_in_no_profile() {
    let scratch = Scratch::new("own-threads");
    // A sample of every block: among them would be what the C library allocates for each thread.
    let conf = final_dump(scratch.path(), "prof_sample:1,background_thread:true");
    holds("background", &conf, scratch.path());
    let dumps = dumps(scratch.path(), 'f');
    assert!(!dumps.is_empty());
    for path in dumps {
        let dump = Dump::read(&path);
        assert!(!dump.profile.sample.is_empty());
        for sample in &dump.profile.sample {
            assert!(dump.frames(sample).all(|frame| !dump.file(frame).contains("libheapsift")), "an allocator frame");
        }
    }
}
