//! What the reports begin with: pprof's lines about the profile, the filters, and what is shown of it.

use super::{Format, Options, time};
use crate::graph::Trimmed;
use crate::model::{Profile, base_name};
use crate::{escape, measure};

/// What the profile is. `total` in the report's unit stands beside the duration.
pub(crate) fn profile_lines(profile: &Profile, options: &Options, format: &Format) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        out.push_str(&format!("{name}{}\n", escape::terminal(value)));
    };
    if let Some(main) = profile.mappings.first() {
        let (file, id) = (profile.text(main.file), profile.text(main.build_id));
        if !file.is_empty() {
            line("File: ", base_name(file));
        }
        if !id.is_empty() {
            line("Build ID: ", id);
        }
    }
    for comment in profile.comments.iter().filter(|comment| !comment.starts_with('#')) {
        line("", comment);
    }
    let value_type = &profile.sample_types[options.columns.column];
    if !value_type.kind.is_empty() || options.divisor.is_some() {
        let mean = if options.divisor.is_some() { "mean_" } else { "" };
        line("Type: ", &format!("{mean}{}", value_type.kind));
    }
    if profile.time_nanos != 0 {
        line("Time: ", &time::header(profile.time_nanos));
    }
    if profile.duration_nanos != 0 {
        let duration = i128::from(profile.duration_nanos);
        let (nanos, in_nanos) = measure::scale(options.total, &value_type.unit, "nanoseconds");
        let share = if in_nanos == "ns" && nanos != 0.0 {
            format!("({})", measure::percentage(nanos as i128, duration))
        } else {
            String::new()
        };
        let total = format.value(options.total);
        let duration = measure::label(duration, "nanoseconds", "auto");
        line("Duration: ", &format!("{duration}, Total samples = {total} {share}"));
    }
    out
}

/// Which filters are in force.
pub(crate) fn filter_lines(filters: &[String]) -> String {
    if filters.is_empty() {
        return String::new();
    }
    let mut out = "Active filters:\n".to_owned();
    for filter in filters {
        let filter = escape::terminal(filter);
        let cut = filter.char_indices().nth(80).map_or(filter.len(), |(at, _)| at);
        let more = if cut < filter.len() { "…" } else { "" };
        out.push_str(&format!("   {}{more}\n", &filter[..cut]));
    }
    out
}

/// What is shown, and `more` about it, then what is not.
pub(crate) fn shown_lines(trimmed: &Trimmed, options: &Options, format: &Format, more: &str) -> String {
    let shown = trimmed.nodes.iter().fold(0i128, |sum, node| sum.saturating_add(node.flat.shown()));
    let mut out = format!(
        "Showing nodes accounting for {}, {} of {} total\n{more}",
        format.value(shown),
        measure::percentage(shown, options.total).trim(),
        format.value(options.total)
    );
    if options.total == 0 {
        return out;
    }
    if trimmed.dropped > 0 {
        let nodes = if trimmed.dropped > 1 { "nodes" } else { "node" };
        let cut = ((options.total as f64 * options.trim.node_fraction) as i128).abs();
        out.push_str(&format!("Dropped {} {nodes} (cum <= {})\n", trimmed.dropped, format.value(cut)));
    }
    if !trimmed.nodes.is_empty() && trimmed.nodes.len() < trimmed.candidates {
        let (shown, all) = (trimmed.nodes.len(), trimmed.candidates);
        out.push_str(&format!("Showing top {shown} nodes out of {all}\n"));
    }
    out
}
