//! Sequences of operations on a heap, against a model.

use alloc_core::Heap;

use common::Nobody;
use sequence::{Bytes, Model, Op};

#[path = "../../../alloc-core/tests/common/mod.rs"]
mod common;
#[path = "../../../alloc-core/tests/operations/sequence.rs"]
mod sequence;

static HEAP: Heap<Nobody> = Heap::new(Nobody);

/// Reads the bytes as operations and does them.
pub fn operations(bytes: &[u8]) {
    let mut model = Model::new(&HEAP);
    let mut rest = Bytes(bytes);
    while let Some(op) = Op::read(&mut rest) {
        model.run(op);
    }
    model.check_heap();
    model.finish();
}
