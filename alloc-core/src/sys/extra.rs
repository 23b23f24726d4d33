//! Raw system calls for files, names and signals: what the profiler needs beyond the heap.
