//! Arenas whose memory comes from programs' extent hooks, with every ill that hooks may have.

use std::time::Duration;

use heapsift_tests::{Program, by_length, tools};

/// Runs `c/hooks.c` with hooks of each of these kinds.
#[track_caller]
fn hooks_may_be(kinds: &[&str]) {
    let program = tools::compile("c/hooks.c", &["-ldl"]);
    for kind in kinds {
        Program::new(&program)
            .args([*kind, by_length("6000", "200000")])
            .under("prof:true,lg_prof_sample:14")
            .within(Duration::from_secs(by_length(60, 600)))
            .run()
            .expect_success();
    }
}

#[test]
fn hooks_that_do_all_that_they_are_asked() {
    hooks_may_be(&["", "allocates", "zeroed", "uncommitted", "lazily", "at-once", "bound", "default-only"]);
}

#[test]
fn hooks_that_pin_their_pages() {
    hooks_may_be(&["pinned", "pinned,no-split", "pinned,bound,zeroed"]);
}

#[test]
fn hooks_that_have_no_memory() {
    hooks_may_be(&["alloc-fails", "alloc-stops", "uncommitted,commit-fails", "uncommitted,no-commit,no-decommit"]);
}

#[test]
fn hooks_that_take_nothing_back() {
    hooks_may_be(&[
        "dalloc-refuses",
        "dalloc-refuses,decommit-refuses",
        "dalloc-refuses,decommit-refuses,forced-refuses,lazily",
        "dalloc-refuses,decommit-refuses,forced-refuses,lazy-refuses,lazily",
        "no-dalloc,no-decommit",
        "no-dalloc,no-decommit,no-lazy,no-forced,no-destroy,lazily",
    ]);
}

#[test]
fn hooks_that_refuse_to_cut_and_to_join() {
    hooks_may_be(&[
        "split-refuses",
        "merge-refuses",
        "split-moody,merge-moody",
        "no-split",
        "no-merge",
        "uncommitted,split-moody,merge-moody,at-once",
    ]);
}

#[test]
fn hooks_of_several_threads() {
    hooks_may_be(&[
        "threads",
        "threads,bound,allocates",
        "threads,uncommitted,lazily,merge-moody",
        "threads,at-once,split-moody",
        "threads,pinned",
    ]);
}

#[test]
fn hooks_of_automatic_arenas_may_allocate() {
    let program = tools::compile("c/reentry.c", &["-ldl"]);
    for (conf, bytes, inner) in [
        ("narenas:4", "300000", "200"),
        ("narenas:4", "300000", "9000000"),
        // The arena of oversize requests.
        ("narenas:4", "9000000", "9000000"),
        ("percpu_arena:percpu", "300000", "300000"),
        ("percpu_arena:phycpu", "300000", "300000"),
    ] {
        Program::new(&program).args([bytes, inner]).under(conf).run().expect_success();
    }
}
