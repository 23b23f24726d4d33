//! The pprof heap profile format: streaming writer, bounded reader, one schema.
