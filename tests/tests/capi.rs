//! Every function of the C interface where it is easily wrong, in C and C++ programs that get the library in every way.

use heapsift_tests::tools::Linkage;

/// Options with which all must hold: caches and none, samples everywhere and none, filled memory, all checks.
const CONFS: [&str; 6] = [
    "prof:false",
    "tcache:false",
    "prof:true,lg_prof_sample:8,prof_final:false",
    "prof:true,lg_prof_sample:0,prof_final:false,tcache:false",
    "junk:true,narenas:1,dirty_decay_ms:0",
    "safety_check:true",
];

/// Runs a program that checks for itself, in these ways with all options.
#[track_caller]
fn holds(source: &str, ways: &[Linkage]) {
    for way in ways {
        for conf in CONFS {
            let ended = way.program(source, conf).run();
            assert_eq!(ended.status, 0, "{source}, {way:?}, {conf}: {}", ended.complaints());
            assert_eq!(ended.complaints(), "", "{source}, {way:?}, {conf}");
        }
    }
}

#[test]
fn the_standard_functions_hold_at_their_corners() {
    holds("c/corners.c", &Linkage::ALL);
}

#[test]
fn the_functions_with_flags_hold_at_their_corners() {
    holds("c/allocx.c", &Linkage::LINKED);
}

#[test]
fn operators_throw_and_call_handlers() {
    holds("c/operators.cpp", &Linkage::ALL);
}

#[test]
fn a_new_that_may_not_fail_ends_the_process_or_returns_null() {
    holds("c/infallible.cpp", &Linkage::LINKED);
}

#[test]
fn a_new_that_fails_throws_in_the_barest_program() {
    holds("c/bare.cpp", &Linkage::ALL);
}

#[test]
fn operators_of_the_program_are_used_by_those_that_it_lacks() {
    holds("c/replaced.cpp", &Linkage::ALL);
}
