//! Commands that speak to running processes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{Column, Filter, Names, Sources, Table};

/// `ctl`.
#[derive(Debug, Args)]
pub struct Ctl {
    /// The process, or its control socket.
    #[arg(value_name = "PID|SOCKET", value_hint = ValueHint::FilePath)]
    pub target: String,
    /// What to ask of it.
    #[command(subcommand)]
    pub request: Request,
}

/// What a process may be asked.
#[derive(Debug, Subcommand)]
pub enum Request {
    /// Show values of the allocator by their control names, such as stats.allocated.
    Get {
        /// The names; with several, each line says which.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Set a value of the allocator, or carry out what a name stands for, such as arena.4096.purge.
    Set {
        /// The name.
        #[arg(value_name = "NAME")]
        name: String,
        /// The value; without one, the name is an action.
        #[arg(value_name = "VALUE", allow_hyphen_values = true)]
        value: Option<String>,
    },
    /// Fetch a profile and write it to a file.
    Dump {
        /// heap, peak, waste, lifetime, slack or rss.
        #[arg(default_value = "heap", value_name = "KIND")]
        kind: String,
        /// Write to this file; `-` is standard output.
        #[arg(short, long = "output", value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: PathBuf,
    },
    /// Show what holds most now, as a table.
    Top(Box<Table>),
    /// Show the allocator's statistics.
    Stats {
        /// For programs: JSON, with jemalloc's keys.
        #[arg(long)]
        json: bool,
        /// Leave parts out: g m d a b l x e h, as malloc_stats_print has it.
        #[arg(long, value_name = "LETTERS", default_value = "", hide_default_value = true)]
        options: String,
    },
    /// Print a line at each interval: what is allocated, cached, unused, resident.
    Watch {
        /// Seconds between two lines.
        #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0)]
        interval: f64,
        /// End after so many lines; 0: never.
        #[arg(short = 'c', long, value_name = "LINES", default_value_t = 0)]
        count: u64,
        /// For programs: one JSON object each.
        #[arg(long)]
        json: bool,
    },
    /// Show the numbers that Prometheus collects, as OpenMetrics text.
    Metrics,
    /// Switch profiling on.
    Enable {
        /// Mean bytes between two samples, such as 64KiB.
        #[arg(long, value_name = "BYTES", value_parser = super::shared::sample_interval)]
        sample: Option<String>,
    },
    /// Switch profiling off.
    Disable,
    /// Forget all samples.
    Reset,
}

/// `agent`.
#[derive(Debug, Args)]
pub struct Agent {
    /// The process; may be given several times.
    #[arg(id = "pid", long = "pid", required = true, value_name = "PID", num_args = 1..)]
    pub pids: Vec<u32>,
    /// Listen at this address; port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:6060")]
    pub listen: SocketAddr,
    /// What clients must know, as Bearer token or as password; @FILE: the first line of that file.
    /// Needed unless the address is a loopback one.
    #[arg(long, value_name = "TOKEN|@FILE")]
    pub token: Option<String>,
}

/// `serve`.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "flattened groups must not carry comments of their own")]
pub struct Serve {
    /// Profiles; directories, whose dumps are listed as they come and go; http:// and https:// addresses, numbers of processes
    /// and control sockets, of which profiles are taken when the page asks for them.
    #[arg(id = "profiles", required = true, value_name = "FILE|DIR|URL|PID", value_hint = ValueHint::AnyPath)]
    pub words: Vec<PathBuf>,
    /// Listen at this address; port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// What the browser must know [default: chosen at random, part of the address that is printed]; @FILE: the first line
    /// of that file. Needed unless the address is a loopback one.
    #[arg(long, value_name = "TOKEN|@FILE")]
    pub token: Option<String>,
    #[command(flatten)]
    pub column: Column,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub sources: Sources,
    #[command(flatten)]
    pub names: Names,
}
