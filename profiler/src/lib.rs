//! A jemalloc-compatible allocator with a sampled heap profiler.
