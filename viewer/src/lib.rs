//! The library behind the `heapsift` command.
