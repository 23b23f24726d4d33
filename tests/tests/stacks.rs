//! Stacks where a walk may go astray.

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::{final_dump, only};
use heapsift_tests::{Dump, Program, tools};

#[test]
fn a_stray_frame_pointer_on_a_coroutine_is_not_followed() {
    let program = tools::compile("c/coroutine.c", &[]);
    let scratch = Scratch::new("coroutine");
    let ended = Program::new(&program).under(final_dump(scratch.path(), "lg_prof_sample:12")).run().expect_success();
    assert_eq!(ended.text(), "done\n");
    let dump = Dump::symbolized(&only(scratch.path(), 'f'), &scratch.join("named.pb.gz"));
    let roots = |wanted: &str| {
        dump.profile.sample.iter().any(|row| {
            let names: Vec<&str> = dump.names(row).collect();
            names.first() == Some(&"allocate") && names.last() == Some(&wanted)
        })
    };
    // On the thread's own stack to its start, on the other as far as there is something to follow.
    assert!(roots("clone3") || roots("__clone3") || roots("clone"), "no complete stack");
    assert!(roots("[unknown callers]"), "no stack of the coroutine");
}
