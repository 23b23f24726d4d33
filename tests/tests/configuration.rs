//! Options that programs and people set: where they come from, what is said about bad ones, and that good ones work.

use heapsift_tests::{Program, tools};

#[test]
fn what_is_said_while_the_allocator_starts_reaches_a_function_that_allocates() {
    let program = tools::compile("c/message.c", &["-rdynamic"]);
    let ended = Program::new(&program).under("narenas:0,zero:maybe").run().expect_success();
    let told = ended.text();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines,
        [
            "<heapsift>: Invalid conf pair: foo:bar",
            "<heapsift>: Out-of-range conf value: narenas:0",
            "<heapsift>: Invalid conf value: zero:maybe",
        ]
    );
    assert_eq!(ended.complaints(), "");
    // More than is kept: the rest goes past the function.
    let many = "nonsense:1,".repeat(400) + "last:1";
    let ended = Program::new(&program).under(&many).run().expect_success();
    let (kept, past) = (ended.text(), ended.complaints());
    assert!(kept.lines().count() > 100 && past.lines().count() > 100);
    assert_eq!(kept.lines().count() + past.lines().count(), 402);
    assert!(past.ends_with("<heapsift>: Invalid conf pair: last:1\n"), "{past}");
}

#[test]
fn the_last_words_are_said_while_the_allocator_starts() {
    let program = tools::compile("c/message.c", &["-rdynamic"]);
    // The second is about what the program itself asks for, before.
    for (conf, wrong) in [("abort_conf:true,zero:maybe", "value: zero:maybe"), ("abort_conf:true", "pair: foo:bar")] {
        let ended = Program::new(&program).under(conf).run();
        assert_eq!(ended.status, 128 + libc::SIGABRT, "{}", ended.complaints());
        let complaints = ended.complaints();
        assert!(complaints.contains(&format!("Invalid conf {wrong}\n")), "{complaints}");
        assert!(complaints.ends_with("Abort (abort_conf:true) on invalid conf value (see above).\n"), "{complaints}");
    }
}
