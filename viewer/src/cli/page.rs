//! `report`: which files make the page.

use super::{args, leaks, load, reports, tell};
use crate::error::Result;
use crate::graph::Granularity;
use crate::model::BaseUse;
use crate::output;
use crate::report::page;
use crate::series::{self, Series};

/// `report`.
pub fn report(arguments: &args::Report) -> Result<()> {
    let args::Report { files, diff_base, column, filter, sources, names, .. } = arguments;
    // One directory is a series; each file is itself.
    let given = files;
    let files = leaks::thinned(leaks::dumps(given)?, arguments.most as usize);
    let mut inputs = load::read_found(&files, given, names)?;
    inputs.sort_by_key(|input| input.message.time_nanos);
    let request = |base: BaseUse| reports::plain(&files, (&[], base), column, filter, sources, names);
    let mut series = None;
    // Two files of a series are shown for themselves, too. They are not read again: an address would answer something else.
    let (new, oldest) = if inputs.len() >= 3 {
        let ends = (inputs.last().cloned(), inputs.first().cloned());
        let mut loaded = request(BaseUse::None).prepare(inputs, Vec::new())?;
        let options = series::Options { columns: loaded.columns, granularity: Granularity::Sites, by_cum: false };
        match Series::new(&mut loaded.profile, &options) {
            Ok(found) => series = Some((loaded.profile, found)),
            Err(reason) => tell(&format!("the page has no trends: {reason}")),
        }
        ends
    } else {
        (inputs.pop(), inputs.pop())
    };
    let new = Vec::from_iter(new);
    let shown = new[0].path.to_string_lossy().into_owned();
    let base = match diff_base {
        Some(path) => load::read_all(std::slice::from_ref(path), names)?,
        None => Vec::from_iter(oldest),
    };
    let base_use = if base.is_empty() { BaseUse::None } else { BaseUse::Compare };
    let mut loaded = request(base_use).prepare(new, base)?;
    let options = page::Options { columns: loaded.columns, title: arguments.title.clone(), shown };
    let series = series.as_ref().map(|(profile, series)| (profile, series));
    let html = page::html(&mut loaded.profile, &options, series);
    output::to_path(&arguments.target.output, html.as_bytes())
}
