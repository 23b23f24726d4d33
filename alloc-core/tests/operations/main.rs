//! Long sequences of random operations against a model.

#[path = "../common/mod.rs"]
mod common;
mod sequence;

use alloc_core::Heap;
use common::Nobody;
use sequence::{Bytes, Model, Op, Source};

static HEAP: Heap<Nobody> = Heap::new(Nobody);

/// Operations that are drawn, from bytes as a fuzzer would give them.
fn draw(count: u64, seed: u64) {
    let mut model = Model::new(&HEAP);
    // So many slabs of a class that more are made side by side, which is seldom so with what is drawn.
    for source in [Source::Arena, Source::Made].into_iter().cycle().take(2000) {
        model.run(Op::Allocate { size: 2000, lg_align: 0, zero: false, source });
    }
    let (mut state, mut bytes, mut done) = (seed, vec![0u8; 4096], 0);
    while done < count {
        for chunk in bytes.chunks_exact_mut(8) {
            // xorshift64*.
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            chunk.copy_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        let mut rest = Bytes(&bytes);
        while let Some(op) = Op::read(&mut rest) {
            model.run(op);
            done += 1;
        }
        // Often while there is little, so that a fault is found near where it was made.
        if done < 20_000 || (done / 500) % 100 == 0 {
            model.check_heap();
        }
    }
    model.check_heap();
    model.finish();
}

#[test]
fn a_heap_is_as_the_model_says() {
    let is_long = std::env::var_os("HEAPSIFT_LONG").is_some_and(|value| value == "1");
    for seed in 1..=4u64 {
        draw(if is_long { 2_500_000 } else { 100_000 }, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

/// The same sequences where everything is checked and nothing cached, in a process of its own that is configured so.
#[test]
fn a_checked_heap_is_as_the_model_says() {
    const CONF: &str = "safety_check:true";
    if std::env::var("MALLOC_CONF").is_ok_and(|conf| conf == CONF) {
        assert!(HEAP.options().safety_check);
        draw(20_000, 0x9e37_79b9_7f4a_7c15);
        return;
    }
    let test = std::env::current_exe().expect("the program of this test");
    let ended = std::process::Command::new(test)
        .args(["--exact", "a_checked_heap_is_as_the_model_says", "--nocapture"])
        .env("MALLOC_CONF", CONF)
        .output()
        .expect("it runs");
    assert!(
        ended.status.success(),
        "{}{}",
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr)
    );
}
