//! The `heapsift` command, driven as a person drives it.

mod browser;
mod convert;
mod diff;
mod export;
mod flame;
mod formats;
mod go;
mod input;
mod leaks;
mod merge;
mod noise;
mod page;
mod run;
mod serve;
mod sinks;
mod support;
mod symbolize;
mod top;
