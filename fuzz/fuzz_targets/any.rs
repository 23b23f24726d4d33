//! The target that the environment's `HEAPSIFT_TARGET` names, driven by libFuzzer.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static RUN: OnceLock<fn(&[u8])> = OnceLock::new();
    let run = RUN.get_or_init(|| {
        let name = std::env::var("HEAPSIFT_TARGET").expect("HEAPSIFT_TARGET names a target: see tests/fuzz/src/lib.rs");
        targets::target(&name).run
    });
    run(data);
});
