//! `export`: many profiles become tables, one after the other, in memory that does not depend on how many they are.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::progress::Progress;
use super::{args, load, tell};
use crate::error::{Error, Result};
use crate::formats::parquet::{self, Export, Origin};
use crate::input::{self, Merge, Periods};
use crate::measure::counted;
use crate::model::Profile;
use crate::output::NewDirectory;
use crate::run::Dump;
use crate::symbolize::Options;

/// Lines about names that are told; thousands of files have the same to say.
const MOST_LINES: usize = 10;

/// `export`.
pub fn export(arguments: &args::Export) -> Result<()> {
    let files = load::files(&arguments.files)?;
    let options = arguments.names.places.options().map_err(Error::Usage)?;
    let directory = NewDirectory::create(&arguments.output)?;
    let (stacks, samples) = (directory.file("stacks.parquet")?, directory.file("samples.parquet")?);
    let mut progress = Progress::new(files.len());
    let mut told = HashSet::new();
    let mut sinks = Some((stacks, samples));
    let mut tables: Option<Export<File>> = None;
    let (mut gone, mut count) = (load::Gone::new(&arguments.files), 0);
    load::in_turn(
        &files,
        &mut gone,
        |path| read(path, &arguments.names, &options),
        |(path, profile, line)| {
            if let Some(line) = line.filter(|line| told.len() < MOST_LINES && told.insert(line.clone())) {
                progress.clear();
                tell(&line);
            }
            let failed = |error| match error {
                parquet::Error::Io(source) => Error::io("write", &arguments.output, source),
                parquet::Error::Profile(reason) => Error::input(&path, reason),
            };
            if let Some((stacks, samples)) = sinks.take() {
                tables = Some(Export::new(&profile, &arguments.column, stacks, samples).map_err(failed)?);
            }
            let Some(tables) = &mut tables else { return Ok(()) };
            tables.add(&profile, &origin(&path, &path.to_string_lossy())).map_err(failed)?;
            count += 1;
            progress.step();
            Ok(())
        },
    )?;
    progress.clear();
    gone.finish(files.len())?;
    // There is at least one file.
    let Some(tables) = tables else { return Ok(()) };
    let (stacks, samples, size) = tables.finish().map_err(|error| match error {
        parquet::Error::Io(source) => Error::io("write", &arguments.output, source),
        parquet::Error::Profile(reason) => Error::input(&arguments.output, reason),
    })?;
    directory.finish([stacks, samples])?;
    drop(progress);
    tell(&format!(
        "{}: {} and {} of {}",
        arguments.output.display(),
        counted(size.rows as usize, "row"),
        counted(size.stacks as usize, "stack"),
        counted(count, "file")
    ));
    Ok(())
}

/// Where a file comes from, as far as its name tells.
fn origin<'a>(path: &Path, name: &'a str) -> Origin<'a> {
    let dump = Dump::parse(path, std::time::SystemTime::UNIX_EPOCH, 0);
    let dump = dump.as_ref();
    Origin {
        name,
        pid: dump.map(|dump| dump.pid),
        sequence: dump.map(|dump| dump.sequence),
        kind: dump.map(|dump| dump.kind),
    }
}

/// Reads and names a file; its equal rows are one. Where it is, its rows, and what there is to say about its names.
fn read(path: &Path, names: &args::Names, options: &Options) -> Result<(PathBuf, Profile, Option<String>)> {
    let mut input = input::read_within(path, &names.reading.limits())?;
    let line = load::notes(&mut input, names, options, None);
    let path = input.path.clone();
    Ok((path, input::combine(vec![input], Vec::new(), Merge::Sides(Periods::Mixed), false)?, line))
}
