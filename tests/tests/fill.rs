//! `zero` and `junk`: every block is filled, those out of thread caches as well.

use heapsift_tests::{Program, tools};

#[test]
fn blocks_are_filled_as_asked() {
    let program = tools::compile("c/fill.c", &[]);
    for size in ["32", "200", "3000", "20000"] {
        let run = |conf: &str| Program::new(&program).arg(size).under(conf).run().expect_success().text();
        assert_eq!(run("zero:true"), "fresh 00\nfreed 07\n", "{size}");
        assert_eq!(run("junk:true"), "fresh a5\nfreed 5a\n", "{size}");
        assert_eq!(run("junk:alloc"), "fresh a5\nfreed 07\n", "{size}");
        assert!(run("junk:free").ends_with("freed 5a\n"), "{size}");
        assert_eq!(run("zero:true,tcache:false"), "fresh 00\nfreed 07\n", "{size}");
    }
}
