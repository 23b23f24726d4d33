//! `leaks`: which dumps make a series, and what is said of it.

use std::path::{Path, PathBuf};

use super::{args, load, reports, rows, style, tell, write_json};
use crate::error::{Error, Result};
use crate::graph::Granularity;
use crate::input::{self, Input};
use crate::model::BaseUse;
use crate::report::{leaks, plots};
use crate::series::{self, Series};
use crate::{output, run};

/// `leaks`.
pub fn leaks(arguments: &args::Leaks) -> Result<()> {
    let args::Leaks { files, column, filter, sources, names, .. } = arguments;
    let given = files;
    let files = thinned(dumps(given)?, arguments.most as usize);
    let inputs = in_order(load::read_found(&files, given, names)?)?;
    let request = reports::plain(&files, (&[], BaseUse::None), column, filter, sources, names);
    let mut loaded = request.prepare(inputs, Vec::new())?;
    let default = if arguments.cum { Granularity::Functions } else { Granularity::Sites };
    let granularity = arguments.rows.granularity(default);
    let series_options = series::Options { columns: loaded.columns, granularity, by_cum: arguments.cum };
    let series = Series::new(&mut loaded.profile, &series_options)
        .map_err(|reason| Error::Usage(format!("--sample-index: {reason}")))?;
    let options = leaks::Options {
        column: loaded.columns.column,
        granularity,
        node_count: rows(arguments.nodecount, 20),
        unit: arguments.unit.clone(),
    };
    let (profile, output) = (&loaded.profile, &arguments.output);
    if arguments.json {
        return write_json(output, &leaks::json(profile, &series, &options));
    }
    let is_picture = arguments.svg || output.output.extension().is_some_and(|end| end == "svg");
    let text = match is_picture {
        true => plots::svg(profile, &series, &options),
        false => leaks::text(profile, &series, &options, style(output)),
    };
    output::to_path(&output.output, text.as_bytes())
}

/// The files meant: of a directory, all dumps of the process that has most of them.
pub(super) fn dumps(files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in files {
        if path == Path::new("-") || input::fetch::is_url(&path.to_string_lossy()) || !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let dumps = run::some_dumps_in(path)?;
        // The last with the most: the youngest of those that are equal.
        let of_one = dumps.chunk_by(|a, b| a.pid == b.pid);
        let most = of_one.max_by_key(|of| (of.len(), of.iter().map(|dump| dump.written).max()));
        let (pid, count) = most.map_or((0, 0), |of| (of[0].pid, of.len()));
        if count < dumps.len() {
            let others = dumps.len() - count;
            tell(&format!("{}: process {pid}; {others} dumps of other processes are left out", path.display()));
        }
        // The peak is a moment that has been told already, or lies between two others.
        all.extend(dumps.into_iter().filter(|dump| dump.pid == pid && dump.kind != 'p').map(|dump| dump.path));
    }
    Ok(all)
}

/// No more than `most` of them, evenly chosen.
pub(super) fn thinned(files: Vec<PathBuf>, most: usize) -> Vec<PathBuf> {
    let count = files.len();
    if count <= most {
        return files;
    }
    tell(&format!("{most} of {count} dumps are looked at (--most)"));
    (0..most).map(|at| files[at * (count - 1) / (most - 1)].clone()).collect()
}

/// By time, and at least three.
fn in_order(mut inputs: Vec<Input>) -> Result<Vec<Input>> {
    if inputs.len() < 3 {
        return Err(Error::Usage(format!(
            "a series needs three dumps or more, and there are {}; `heapsift diff` compares two",
            inputs.len()
        )));
    }
    inputs.sort_by_key(|input| input.message.time_nanos);
    Ok(inputs)
}
