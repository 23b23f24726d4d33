//! The heap of heapsift: arenas, thread caches, slabs, extents, decay.
