//! The subcommands, and the options that they share.

pub mod fast_path;
pub mod redis;
pub mod suite;
pub mod viewer;

use std::path::PathBuf;

use bench::allocators::{self, Allocator};
use bench::{Outcome, fail};
use clap::Args;

/// Which allocators are compared.
#[derive(Debug, Args)]
pub struct Choice {
    /// Only these, in this order: glibc, heapsift, heapsift-prof, jemalloc, mimalloc2, gperftools, those built by
    /// peers/build, those given by --peer
    #[arg(long, short, value_delimiter = ',', value_name = "NAMES")]
    allocators: Vec<String>,
    /// One more, as NAME=PATH[,VARIABLE=VALUE...]; without a path it is glibc's with other variables
    #[arg(long, value_name = "PEER")]
    peer: Vec<String>,
    /// Another libheapsift.so than the one just built
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
}

impl Choice {
    /// The allocators chosen.
    pub fn allocators(&self) -> Outcome<Vec<Allocator>> {
        let library = self.library()?;
        let mut all = allocators::usual(&library);
        all.extend(allocators::built(&bench::workshop(&target()?)?.join("peers")));
        for peer in &self.peer {
            let peer = allocators::parse(peer)?;
            all.retain(|other| other.name != peer.name);
            all.push(peer);
        }
        allocators::select(all, &self.allocators)
    }

    /// The library under test.
    pub fn library(&self) -> Outcome<PathBuf> {
        let path = match &self.library {
            Some(path) => path.clone(),
            None => target()?.join("release/libheapsift.so"),
        };
        match std::fs::canonicalize(&path) {
            Ok(path) => Ok(path),
            Err(error) => fail(format!("{}: {error} (cargo build --release makes it)", path.display())),
        }
    }
}

/// The target directory, in which this program lies.
pub fn target() -> Outcome<PathBuf> {
    let this = std::env::current_exe().map_err(|error| bench::Failure(error.to_string()))?;
    match this.ancestors().nth(2) {
        Some(path) => Ok(path.to_owned()),
        None => fail(format!("{} does not lie in a target directory", this.display())),
    }
}
