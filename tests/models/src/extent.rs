//! Stands for a descriptor, which the page map only points to.

/// A descriptor.
#[derive(Debug)]
pub struct Extent(
    /// What tells it from others.
    pub usize,
);
