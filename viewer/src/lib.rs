//! The library behind the `heapsift` command: reads heap profiles, names their frames, and turns them
//! into tables, flame graphs, differences and other formats.
//!
//! A picture's way through the rooms: [`input`] reads and recognises a file, the symbolizer names its
//! frames, [`model`] holds it in memory, [`graph`] and [`stats`] make numbers with intervals of it,
//! [`compare`] tells real changes from noise, [`series`] leaks from caches, and
//! one module of [`report`] writes them, through [`escape`], as text, JSON or SVG. [`run`] starts
//! programs under the allocator, [`control`] asks running ones, [`agent`] serves what they answer by HTTP, [`serve`] pages
//! of all that. [`cli`] is the command line.
//!
//! Everything but these works offline on files that may be hostile: readers are bounded, sums
//! saturate, and names are escaped where they are written.

#![deny(unsafe_code)]

pub mod agent;
pub mod cli;
pub mod compare;
pub mod control;
pub mod error;
pub mod escape;
pub mod formats;
pub mod graph;
pub mod input;
mod listen;
pub mod measure;
pub mod model;
pub mod output;
pub mod report;
pub mod run;
pub mod series;
pub mod serve;
pub mod stats;
pub mod symbolize;
mod threads;
