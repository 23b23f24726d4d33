//! `report`: which files make the page.

use super::{args, leaks, load, reports};
use crate::error::{Error, Result};
use crate::graph::Granularity;
use crate::input::{self, Input};
use crate::model::BaseUse;
use crate::output;
use crate::report::page;
use crate::series::{self, Series};

/// `report`.
pub fn report(arguments: &args::Report) -> Result<()> {
    let args::Report { files, diff_base, column, filter, sources, names, .. } = arguments;
    // One directory is a series; each file is itself.
    let files = leaks::thinned(leaks::dumps(files)?, arguments.most as usize);
    let mut inputs = load::read_all(&files, names)?;
    inputs.sort_by_key(|input| input.message.time_nanos);
    let newest = inputs[inputs.len() - 1].path.clone();
    let oldest = inputs[0].path.clone();
    let base = match diff_base {
        Some(base) => Some(base.clone()),
        None if inputs.len() > 1 => Some(oldest),
        None => None,
    };
    let once_more = |path: &std::path::Path| load::read_all(&[path.to_owned()], names);
    let request = |base: BaseUse| reports::plain(&files, (&[], base), column, filter, sources, names);
    let (mut series, mut new): (Option<_>, Vec<Input>) = (None, Vec::new());
    if inputs.len() >= 3 {
        if newest == std::path::Path::new("-") || input::fetch::is_url(&newest.to_string_lossy()) {
            return Err(Error::input(&newest, "a series must be of files, since two of them are read twice"));
        }
        let mut loaded = request(BaseUse::None).prepare(inputs, Vec::new())?;
        let options = series::Options { columns: loaded.columns, granularity: Granularity::Sites, by_cum: false };
        let found = Series::new(&mut loaded.profile, &options);
        series = Some((loaded.profile, found));
        new.extend(once_more(&newest)?);
    } else {
        new.extend(inputs.pop());
    }
    let base = match base {
        Some(path) => once_more(&path)?,
        None => Vec::new(),
    };
    let base_use = if base.is_empty() { BaseUse::None } else { BaseUse::Compare };
    let mut loaded = request(base_use).prepare(new, base)?;
    let options = page::Options {
        columns: loaded.columns,
        title: arguments.title.clone(),
        shown: newest.to_string_lossy().into_owned(),
    };
    let series = series.as_ref().map(|(profile, series)| (profile, series));
    let html = page::html(&mut loaded.profile, &options, series);
    output::to_path(&arguments.output, html.as_bytes())
}
