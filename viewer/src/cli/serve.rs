//! `serve`: the report's page by HTTP.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use pprof_export::reader::Limits;

use super::source::Sources;
use super::{agent, args, load, reports};
use crate::error::Result;
use crate::input::Input;
use crate::measure::counted;
use crate::model::{BaseUse, Profile};
use crate::serve::{Desk, Plan};

/// What the command line says of all profiles.
#[derive(Debug)]
struct Options {
    column: args::Column,
    filter: args::Filter,
    sources: args::Sources,
    names: args::Names,
    files: Sources,
}

/// Serves until it is ended.
pub fn serve(arguments: args::Serve) -> Result<()> {
    let args::Serve { words, listen, token, column, filter, sources, names } = arguments;
    let token = token.map(agent::token).transpose()?;
    // A bad expression is told before anything is served.
    load::compile(&filter)?;
    let files = Sources::confined(&sources.source_path);
    let desk = Arc::new(Options { column, filter, sources, names, files });
    Plan { words, listen, token, desk }.serve(|count, address| {
        // Whoever doesn't want to know is served as well.
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "serving {} at {address}", counted(count, "dump")).and_then(|()| out.flush());
    })
}

impl Desk for Options {
    fn limits(&self) -> Limits {
        self.names.reading.limits()
    }

    fn name(&self, input: &mut Input, root: Option<PathBuf>) -> Option<String> {
        // Anew for each: a server that wasn't there may be by now.
        self.names.places.options().map_or_else(Some, |options| load::notes(input, &self.names, &options, root))
    }

    fn prepare(&self, new: Vec<Input>, base: Vec<Input>) -> Result<Profile> {
        let base_use = if base.is_empty() { BaseUse::None } else { BaseUse::Compare };
        let any = args::Column::default();
        let request = reports::plain(&[], (&[], base_use), &any, &self.filter, &self.sources, &self.names);
        request.prepare(new, base).map(|loaded| loaded.profile)
    }

    fn column(&self) -> Option<&str> {
        self.column.sample_index.as_deref()
    }

    fn source(&self, path: &str) -> core::result::Result<Vec<String>, String> {
        self.files.read(path)
    }
}
