//! The `heapsift` command.
fn main() {}
