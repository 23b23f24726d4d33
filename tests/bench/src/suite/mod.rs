//! The suite: workloads under allocators, interleaved, and what they took.

pub mod definition;
pub mod measure;
pub mod table;

pub use definition::{Workload, all};
pub use measure::{Reading, Runner};
pub use table::Results;
