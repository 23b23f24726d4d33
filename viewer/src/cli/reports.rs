//! The reports: arguments to options, options to text, text to where it goes.

use std::path::PathBuf;

use super::load::{self, Loaded, Request};
use super::source::Sources;
use super::{args, rows, style, write_json};
use crate::compare::Pairing;
use crate::error::{Error, Result};
use crate::formats::write;
use crate::graph::{Granularity, Trim};
use crate::input::{self, Merge, Periods};
use crate::model::BaseUse;
use crate::report::{self, diff, flame, folded, info, list, raw, top, traces, tree};
use crate::{measure, output};

/// What is shown of what was loaded.
fn options(loaded: &Loaded, view: &args::View, granularity: Granularity, trim: Trim) -> Result<report::Options> {
    let divide_by = view.values.divide_by;
    if divide_by == 0.0 || !divide_by.is_finite() {
        return Err(Error::Usage("--divide-by: must be a number other than 0".to_owned()));
    }
    Ok(report::Options {
        columns: loaded.columns,
        granularity,
        trim: Trim { drop_negative: view.base.drop_negative, ..trim },
        unit: view.values.unit.clone(),
        ratio: 1.0 / divide_by,
        total: loaded.total,
        filters: loaded.filters.clone(),
        base: loaded.base,
        divisor: loaded.divisor,
    })
}

const NO_TRIM: Trim =
    Trim { by_cum: false, node_count: 0, node_fraction: 0.0, edge_fraction: 0.0, drop_negative: false };

fn trim(limits: &args::Limits, default_count: usize) -> Trim {
    if limits.no_trim {
        return Trim { by_cum: limits.cum, ..NO_TRIM };
    }
    Trim {
        by_cum: limits.cum,
        node_count: rows(limits.nodecount, default_count),
        node_fraction: limits.nodefraction,
        edge_fraction: limits.edgefraction,
        drop_negative: false,
    }
}

/// Which rows become one where each is shown, as in pprof.
fn merge(base: BaseUse, periods: Periods) -> Merge {
    if base == BaseUse::Subtract { Merge::All(periods) } else { Merge::Sides(periods) }
}

/// `top`.
pub fn top(files: &[PathBuf], table: &args::Table) -> Result<()> {
    let args::Table { limits, rows, view, form, output } = table;
    let mut loaded = Request::of_view(files, view).load()?;
    let options = options(&loaded, view, rows.granularity(Granularity::Functions), trim(limits, 0))?;
    let table = top::Top::new(&mut loaded.profile, options);
    let profile = &loaded.profile;
    write(form, output, || table.json(profile), || table.csv(profile), || table.text(profile, style(output)))
}

/// `tree`.
pub fn tree(arguments: &args::Tree) -> Result<()> {
    let args::Tree { files, table: args::Table { limits, rows, view, form, output } } = arguments;
    let mut loaded = Request::of_view(files, view).load()?;
    let options = options(&loaded, view, rows.granularity(Granularity::Functions), trim(limits, 80))?;
    // Without an expression there is always a report.
    let Some(tree) = tree::Tree::new(&mut loaded.profile, options, None) else { return Ok(()) };
    let profile = &loaded.profile;
    write(form, output, || tree.json(profile), || tree.csv(profile), || tree.text(profile, style(output)))
}

/// `peek`.
pub fn peek(arguments: &args::Peek) -> Result<()> {
    let args::Peek { expression, files, cum, rows, view, form, output } = arguments;
    let regex = load::expression(expression)?;
    let mut loaded = Request::of_view(files, view).load()?;
    let trim = Trim { by_cum: *cum, ..NO_TRIM };
    let options = options(&loaded, view, rows.granularity(Granularity::Functions), trim)?;
    let Some(tree) = tree::Tree::new(&mut loaded.profile, options, Some(&regex)) else {
        return Err(no_match(&files[0], expression));
    };
    let profile = &loaded.profile;
    write(form, output, || tree.json(profile), || tree.csv(profile), || tree.text(profile, style(output)))
}

/// `traces`.
pub fn traces(arguments: &args::Traces) -> Result<()> {
    let args::Traces { files, rows, view, form, output } = arguments;
    let request = Request::of_view(files, view);
    let mut loaded = Request { merge: merge(request.base.1, Periods::Mixed), ..request }.load()?;
    let options = options(&loaded, view, rows.granularity(Granularity::Functions), NO_TRIM)?;
    if form.json {
        return write_json(output, &traces::json(&mut loaded.profile, &options));
    }
    let text = if form.csv {
        traces::csv(&mut loaded.profile, &options)
    } else {
        traces::text(&mut loaded.profile, &options, style(output))
    };
    output::to_path(&output.output, text.as_bytes())
}

/// `list`.
pub fn list(arguments: &args::List) -> Result<()> {
    let args::List { expression, files, view, form, output } = arguments;
    let regex = load::expression(expression)?;
    let mut loaded = Request::of_view(files, view).load()?;
    let options = options(&loaded, view, Granularity::Lines, NO_TRIM)?;
    let sources = Sources::new(&view.sources.source_path);
    let is_asked = |name: &str, _: &str| regex.is_match(name);
    let list = list::List::new(&mut loaded.profile, options, &is_asked, false, &mut |path| sources.read(path));
    let Some(list) = list else {
        return Err(no_match(&files[0], expression));
    };
    let profile = &loaded.profile;
    write(form, output, || list.json(profile), || list.csv(), || list.text(style(output)))
}

fn no_match(file: &std::path::Path, expression: &str) -> Error {
    Error::input(file, format!("no function matches {expression}"))
}

/// Writes a report in the form asked for.
fn write(
    form: &args::Form,
    output: &args::Output,
    json: impl FnOnce() -> serde_json::Value,
    csv: impl FnOnce() -> String,
    text: impl FnOnce() -> String,
) -> Result<()> {
    if form.json {
        return write_json(output, &json());
    }
    let text = if form.csv { csv() } else { text() };
    output::to_path(&output.output, text.as_bytes())
}

/// A request without the options of tables.
pub(super) fn plain<'a>(
    files: &'a [PathBuf],
    base: (&'a [PathBuf], BaseUse),
    column: &'a args::Column,
    filter: &'a args::Filter,
    sources: &'a args::Sources,
    names: &'a args::Names,
) -> Request<'a> {
    Request {
        files,
        base,
        normalise: false,
        column,
        filter,
        sources,
        names,
        unit: "minimum",
        mean: false,
        relative: false,
        merge: Merge::Nothing,
        trims_paths: true,
    }
}

/// `flame`.
pub fn flame(arguments: &args::Flame) -> Result<()> {
    let args::Flame { files, column, filter, sources, names, base, .. } = arguments;
    let request = plain(files, base.files(), column, filter, sources, names);
    let loaded = Request { normalise: base.normalize, ..request }.load()?;
    let options = flame::Options {
        columns: loaded.columns,
        comparison: match loaded.base {
            BaseUse::None => flame::Comparison::None,
            BaseUse::Subtract => flame::Comparison::Growth,
            BaseUse::Compare => flame::Comparison::BothSides,
        },
        icicle: arguments.icicle,
        title: arguments.title.clone(),
    };
    let picture = flame::svg(&loaded.profile, &options).map_err(|reason| Error::input(&files[0], reason))?;
    output::to_path(&arguments.target.output, &picture)
}

/// `diff`.
pub fn diff(arguments: &args::Diff) -> Result<()> {
    let args::Diff { column, filter, sources, names, form, output, .. } = arguments;
    // Clap sees to it that there are two, or both lists.
    let (base, new) = match arguments.files.as_slice() {
        [base, new] => (std::slice::from_ref(base), std::slice::from_ref(new)),
        _ => (arguments.base.as_slice(), arguments.new.as_slice()),
    };
    let request = plain(new, (base, BaseUse::Compare), column, filter, sources, names);
    let mut loaded = request.load()?;
    let is_named_so = output.output.to_string_lossy().ends_with(".pb.gz") && !form.json && !form.csv;
    let to = arguments.to.unwrap_or(if is_named_so { args::DiffFormat::Pprof } else { args::DiffFormat::Text });
    let default = if arguments.cum { Granularity::Functions } else { Granularity::Sites };
    let options = diff::Options {
        columns: loaded.columns,
        granularity: arguments.rows.granularity(default),
        by_cum: arguments.cum,
        pairing: match arguments.pairing {
            args::Pairing::Auto => Pairing::Auto,
            args::Pairing::Survivors => Pairing::Survivors,
            args::Pairing::Independent => Pairing::Independent,
        },
        node_count: rows(arguments.nodecount, 0),
        unit: arguments.unit.clone(),
    };
    let table = diff::Diff::new(&mut loaded.profile, options)
        .map_err(|reason| Error::Usage(format!("--pairing survivors: not possible: {reason}")))?;
    let profile = &mut loaded.profile;
    if to == args::DiffFormat::Pprof {
        profile.settle_labels(&[]);
        profile.divide_by_files();
        profile.merge_rows(false);
        output::profile_to_path(&output.output, &pprof_export::encode_gzip(&write::message::message(profile)))?;
    } else {
        write(form, output, || table.json(profile), || table.csv(profile), || table.text(profile, style(output)))?;
    }
    let Some(limit) = arguments.fail_over else { return Ok(()) };
    let over = table.growth_over(profile, limit.into());
    if over.is_empty() {
        return Ok(());
    }
    let unit = &profile.sample_types[loaded.columns.column].unit;
    let limit = measure::label(limit.into(), unit, &arguments.unit);
    Err(Error::Check(format!("grew by more than {limit}: {}", over.join("; "))))
}

/// `info`.
pub fn info(arguments: &args::Info) -> Result<()> {
    let mut reports = Vec::new();
    let mut text = String::new();
    for path in &arguments.files {
        let input = load::read(path, &arguments.reading.limits())?;
        let shown = input.path.to_string_lossy().into_owned();
        let profile = input::combine(vec![input], Vec::new(), Merge::Nothing, false)?;
        if arguments.json {
            reports.push(info::json(&profile, &shown));
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&info::text(&profile, &shown));
    }
    if arguments.json {
        return write_json(&arguments.output, &reports.into());
    }
    output::to_path(&arguments.output.output, text.as_bytes())
}

/// `convert`.
pub fn convert(arguments: &args::Convert) -> Result<()> {
    let args::Convert { files, column, filter, base, sources, names, .. } = arguments;
    let request = plain(files, base.files(), column, filter, sources, names);
    // Who reads it wants to know how sure it is; what is only shown is shown as in pprof.
    let is_to_be_read = arguments.to == args::Format::Pprof;
    let merge = merge(request.base.1, if is_to_be_read { Periods::Apart } else { Periods::Mixed });
    // Of the formats only this one shows the profile as it is.
    let trims_paths = arguments.to != args::Format::Raw;
    let mut loaded = Request { normalise: base.normalize, merge, trims_paths, ..request }.load()?;
    let (profile, column) = (&loaded.profile, loaded.columns.column);
    let negative = if base.drop_negative { write::Negative::Dropped } else { write::Negative::Refused };
    let refused = |reason| Error::input(&files[0], reason);
    let target = &arguments.output.output;
    let bytes = match arguments.to {
        args::Format::Pprof => {
            return output::profile_to_path(target, &pprof_export::encode_gzip(&write::message::message(profile)));
        }
        args::Format::Folded => folded::text(profile, column).into_bytes(),
        args::Format::Raw => raw::text(profile).into_bytes(),
        args::Format::Csv => write::csv::text(profile).into_bytes(),
        args::Format::Callgrind => write::callgrind::text(profile, column, negative).map_err(refused)?.into_bytes(),
        args::Format::Dot => write::dot::text(profile, column).into_bytes(),
        args::Format::Speedscope => write::speedscope::text(profile, column, negative).map_err(refused)?.into_bytes(),
        args::Format::Firefox => write::firefox::text(profile).into_bytes(),
        args::Format::Text => {
            let options = report::Options {
                columns: loaded.columns,
                granularity: Granularity::Lines,
                trim: NO_TRIM,
                unit: "minimum".to_owned(),
                ratio: 1.0,
                total: loaded.total,
                filters: Vec::new(),
                base: loaded.base,
                divisor: None,
            };
            traces::text(&mut loaded.profile, &options, output::Style::default()).into_bytes()
        }
    };
    output::to_path(target, &bytes)
}
