//! `top`: where the memory is, as a table; with a base, where it changed.
//!
//! Numbers, order and cuts are those of `go tool pprof -top`; the columns of samples and of the 95 %
//! interval, and the place in the source, are this tool's.

use serde_json::{Value, json};

use super::{Format, Options, estimate_json, head, narrow};
use crate::graph::{Granularity, Inlined, Node, Sides, Trimmed, printable};
use crate::model::{BaseUse, Profile};
use crate::output::Style;
use crate::{escape, measure};

/// The finished table.
#[derive(Debug)]
pub struct Top {
    shown: Trimmed,
    options: Options,
    format: Format,
}

impl Top {
    /// Makes the table.
    pub fn new(profile: &mut Profile, options: Options) -> Self {
        let shown = Trimmed::new(profile, &options.columns, options.graph(), options.trim, false);
        let format = shown.format(profile, &options);
        Self { shown, options, format }
    }

    /// The table for people.
    pub fn text(&self, profile: &Profile, style: Style) -> String {
        let Self { shown, options, format } = self;
        let mut out = head::profile_lines(profile, options, format);
        out.push_str(&head::filter_lines(&options.filters));
        out.push_str(&head::shown_lines(shown, options, format, &self.sampling_line(profile)));
        let which = if options.trim.by_cum { "cum 95%" } else { "flat 95%" };
        let title = format!(
            "{:>10} {:>5}% {:>5}% {:>10} {:>5}% {:>8} {:>18}  name",
            "flat", "flat", "sum", "cum", "cum", "samples", which
        );
        out.push_str(&style.paint("1", &title));
        out.push('\n');
        let total = options.total;
        let mut sum = 0i128;
        for node in &shown.nodes {
            let (flat, cum) = (node.flat.shown(), node.cum.shown());
            sum = sum.saturating_add(flat);
            let sides = if options.trim.by_cum { &node.cum } else { &node.flat };
            let numbers = format!(
                "{:>10} {} {} {:>10} {} {:>8} {:>18}  ",
                format.value(flat),
                measure::percentage(flat, total),
                measure::percentage(sum, total),
                format.value(cum),
                measure::percentage(cum, total),
                sides.samples() as u64,
                format.interval(options.interval(sides)),
            );
            let name = row_name(profile, node, options.granularity);
            let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(numbers.chars().count()));
            out.push_str(&numbers);
            out.push_str(&style.name(&escape::shorten(&name, room.max(20))));
            out.push('\n');
        }
        out
    }

    fn sampling_line(&self, profile: &Profile) -> String {
        if self.options.columns.period() <= 0.0 {
            return String::new();
        }
        let periods =
            || profile.sources.iter().filter_map(|source| u64::try_from(source.period).ok()).filter(|&bytes| bytes > 0);
        let (least, most) = (periods().min().unwrap_or(0), periods().max().unwrap_or(0));
        let mut every = measure::bytes(least);
        if most > least {
            every = format!("{every} to {}", measure::bytes(most));
        }
        let totals = &self.shown.total;
        format!(
            "Sampled every {every}: {} samples; total within {} (95%)\n",
            totals.samples() as u64,
            self.format.interval(self.options.interval(totals)),
        )
    }

    /// The table for programs.
    pub fn json(&self, profile: &Profile) -> Value {
        let Self { shown, options, .. } = self;
        let value_type = &profile.sample_types[options.columns.column];
        let rows: Vec<Value> = shown
            .nodes
            .iter()
            .map(|node| {
                let mut row = node_json(profile, node);
                row["flat"] = sides_json(options, &node.flat);
                row["cum"] = sides_json(options, &node.cum);
                row
            })
            .collect();
        json!({
            "sample_type": value_type.kind,
            "unit": value_type.unit,
            "period": profile.period,
            "time_nanos": profile.time_nanos,
            "total": narrow(options.total),
            "sum": sides_json(options, &shown.total),
            "dropped_rows": shown.dropped,
            "rows_in_all": shown.candidates,
            "rows": rows,
        })
    }

    /// The table for spreadsheets, in the profile's own unit.
    pub fn csv(&self, profile: &Profile) -> String {
        let mut out = String::from(
            "function,file,line,binary,flat,flat_low,flat_high,flat_samples,cum,cum_low,cum_high,cum_samples\n",
        );
        let cells = |sides: &Sides| {
            let ends = match self.options.interval(sides) {
                Some(i) => format!("{:.0},{:.0}", i.low, i.high),
                None => ",".to_owned(),
            };
            format!("{},{ends},{}", measure::times(sides.shown(), self.options.ratio), sides.samples() as u64)
        };
        for node in &self.shown.nodes {
            let key = &node.key;
            let function = match profile.text(key.name) {
                "" => printable(profile, key),
                name => name.into(),
            };
            out.push_str(&format!(
                "{},{},{},{},{},{}\n",
                escape::csv(&function),
                escape::csv(profile.text(node.place.0)),
                node.place.1,
                escape::csv(profile.text(key.object)),
                cells(&node.flat),
                cells(&node.cum),
            ));
        }
        out
    }
}

/// Who a node is, for programs.
pub(crate) fn node_json(profile: &Profile, node: &Node) -> Value {
    json!({
        "name": printable(profile, &node.key),
        "function": profile.text(node.key.name),
        "file": profile.text(node.place.0),
        "line": node.place.1,
        "binary": profile.text(node.key.object),
        "inlined": match node.inlined {
            Inlined::No => "no",
            Inlined::Partly => "partly",
            Inlined::Yes => "yes",
        },
    })
}

/// A sum, or a change, for programs; in the profile's unit, not multiplied.
pub(crate) fn sides_json(options: &Options, sides: &Sides) -> Value {
    if options.divisor.is_some() {
        return json!({"value": narrow(sides.shown()), "sum": narrow(sides.net()), "blocks": narrow(sides.divisor)});
    }
    if options.base == BaseUse::None {
        return estimate_json(&sides.new);
    }
    let change = sides.change();
    json!({
        "value": narrow(change.delta),
        "low": change.interval.map(|i| i.low),
        "high": change.interval.map(|i| i.high),
        "base": estimate_json(&sides.base),
        "new": estimate_json(&sides.new),
    })
}

/// A row's name, escaped: pprof's name, how it was inlined, and the heaviest place.
pub(crate) fn row_name(profile: &Profile, node: &Node, granularity: Granularity) -> String {
    let mut name = escape::terminal(&printable(profile, &node.key)).into_owned();
    match node.inlined {
        Inlined::No => {}
        Inlined::Partly => name.push_str(" (partial-inline)"),
        Inlined::Yes => name.push_str(" (inline)"),
    }
    let named_only = matches!(granularity, Granularity::Functions | Granularity::Sites | Granularity::FileFunctions);
    let file = profile.text(node.place.0);
    if named_only && !file.is_empty() {
        name.push_str(&format!("  {}:{}", escape::terminal(&short_path(file)), node.place.1));
    }
    name
}

/// The last two parts of a path: enough to tell `src/cache.rs` from `src/main.rs`.
fn short_path(path: &str) -> String {
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    match (parts.next(), parts.next()) {
        (Some(file), Some(directory)) => format!("{directory}/{file}"),
        _ => path.to_owned(),
    }
}
