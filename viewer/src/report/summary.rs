//! What `run` prints when the program has ended: the sites that hold most at exit, and those that
//! allocated most.

use super::interval_text;
use super::top::row_name;
use crate::escape;
use crate::graph::{Granularity, Graph, Options};
use crate::measure;
use crate::model::{Columns, Profile};
use crate::output::Style;

/// Rows of each table.
const ROWS: usize = 10;

/// Both tables; a profile of another kind gives one, of its default column.
pub fn text(profile: &mut Profile, style: Style) -> String {
    let mut out = String::new();
    let known = [("inuse_space", "In use at exit"), ("alloc_space", "Allocated in total")];
    for (kind, title) in known {
        if let Some(column) = profile.sample_types.iter().position(|t| t.kind == kind) {
            out.push_str(&table(profile, column, title, style));
        }
    }
    if out.is_empty() {
        out = table(profile, profile.default_type, "Total", style);
    }
    out
}

/// What was in use at the peak, if that is worth a table: a tenth more than at the end, which is `at_exit`'s profile.
pub fn peak(at_peak: &mut Profile, at_exit: &Profile, style: Style) -> Option<String> {
    let total = |profile: &Profile| {
        let column = profile.sample_types.iter().position(|t| t.kind == "inuse_space")?;
        let values = (0..profile.row_count()).map(|row| i128::from(profile.values(row)[column]));
        Some((column, values.sum::<i128>()))
    };
    let ((column, peak), (_, exit)) = (total(at_peak)?, total(at_exit)?);
    (peak * 10 > exit * 11).then(|| table(at_peak, column, "In use at the peak", style))
}

fn table(profile: &mut Profile, column: usize, title: &str, style: Style) -> String {
    let columns = Columns::new(profile, column);
    let options = Options { granularity: Granularity::Sites, ..Options::default() };
    let mut graph = Graph::new(profile, &columns, options);
    graph.sort(profile, false);
    let unit = profile.sample_types[column].unit.clone();
    let size = |value: i128| measure::label(value, &unit, "auto");
    let total = &graph.total.new;
    let mut out = format!(
        "\n{}\n",
        style.paint(
            "1",
            &format!(
                "{title}: {}, 95%: {}, {} samples",
                size(total.value),
                interval_text(total.interval(), &unit, "auto"),
                total.samples as u64
            )
        )
    );
    if graph.nodes.is_empty() {
        return out;
    }
    out.push_str(&format!("{:>10} {:>6} {:>18} {:>8}  site\n", "bytes", "share", "95%", "samples"));
    for node in graph.nodes.iter().take(ROWS) {
        let sum = &node.flat.new;
        let numbers = format!(
            "{:>10} {} {:>18} {:>8}  ",
            size(sum.value),
            measure::percentage(sum.value, total.value),
            interval_text(sum.interval(), &unit, "auto"),
            sum.samples as u64,
        );
        let name = row_name(profile, node, Granularity::Sites);
        let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(numbers.len()));
        out.push_str(&format!("{numbers}{}\n", escape::shorten(&name, room.max(20))));
    }
    if graph.nodes.len() > ROWS {
        let rest: i128 = graph.nodes[ROWS..].iter().map(|node| node.flat.net()).sum();
        out.push_str(&format!("{:>10} in {} more sites\n", size(rest), graph.nodes.len() - ROWS));
    }
    out
}
