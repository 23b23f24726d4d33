//! Callgrind's format, for KCachegrind and `callgrind_annotate`: what each function holds itself, line
//! by line, and what it holds through each call.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::frames::{Frame, Frames};
use super::{Negative, program, rows};
use crate::escape;
use crate::model::Profile;

/// A call: from a line of a function to another function.
type Call = (i64, u32);

/// What a function holds.
#[derive(Default)]
struct Costs {
    own: BTreeMap<i64, i128>,
    calls: BTreeMap<Call, i128>,
}

/// Names that are written once and referred to by number.
#[derive(Default)]
struct Names(BTreeMap<String, usize>);

impl Names {
    fn refer(&mut self, name: &str) -> String {
        let shown = escape::terminal(name).into_owned();
        if let Some(number) = self.0.get(&shown) {
            return format!("({number})");
        }
        let number = self.0.len() + 1;
        let text = format!("({number}) {shown}");
        self.0.insert(shown, number);
        text
    }
}

/// The file, for one column.
///
/// # Errors
/// Costs cannot be negative there: says that some are, if these are not to be left out.
pub fn text(profile: &Profile, column: usize, negative: Negative) -> Result<String, String> {
    let by_line = Frames::new(profile, true);
    // Functions are frames without their lines.
    let mut functions: Vec<&Frame<'_>> = Vec::new();
    let mut known: BTreeMap<(&str, &str, &str), u32> = BTreeMap::new();
    let of_frame: Vec<u32> = by_line
        .list
        .iter()
        .map(|frame| {
            let next = functions.len() as u32;
            let at = *known.entry((frame.binary, frame.file, frame.name)).or_insert(next);
            if at == next {
                functions.push(frame);
            }
            at
        })
        .collect();
    let mut costs: Vec<Costs> = functions.iter().map(|_| Costs::default()).collect();
    let mut seen: Vec<(u32, Call)> = Vec::new();
    for (row, value) in rows(profile, column) {
        let value = i128::from(value);
        let stack = by_line.stack(profile, row);
        seen.clear();
        for pair in stack.windows(2) {
            let (caller, callee) = (pair[0] as usize, pair[1] as usize);
            let call = (by_line.list[caller].line, of_frame[callee]);
            // A recursive call counts once for a row.
            if seen.contains(&(of_frame[caller], call)) {
                continue;
            }
            seen.push((of_frame[caller], call));
            *costs[of_frame[caller] as usize].calls.entry(call).or_default() += value;
        }
        if let Some(&leaf) = stack.last() {
            let own = &mut costs[of_frame[leaf as usize] as usize].own;
            *own.entry(by_line.list[leaf as usize].line).or_default() += value;
        }
    }
    let is_shrunk = |costs: &&Costs| costs.own.values().chain(costs.calls.values()).any(|&cost| cost < 0);
    negative.check("callgrind", costs.iter().filter(is_shrunk).count(), "function")?;

    let value_type = &profile.sample_types[column];
    let event = escape::terminal(&value_type.kind).replace(char::is_whitespace, "_");
    let total: i128 = costs.iter().flat_map(|c| c.own.values()).filter(|&&own| own > 0).sum();
    let mut out = format!(
        "# callgrind format\nversion: 1\ncreator: heapsift-{}\ncmd: {}\npositions: line\nevents: {event}\nsummary: {total}\n",
        env!("CARGO_PKG_VERSION"),
        escape::terminal(program(profile)),
    );
    let (mut objects, mut files, mut names) = (Names::default(), Names::default(), Names::default());
    let file = |frame: &Frame<'_>| if frame.file.is_empty() { "???".to_owned() } else { frame.file.to_owned() };
    let object = |frame: &Frame<'_>| if frame.binary.is_empty() { "???".to_owned() } else { frame.binary.to_owned() };
    let is_anything = |costs: &Costs| costs.own.values().chain(costs.calls.values()).any(|&cost| cost > 0);
    for (function, costs) in functions.iter().zip(&costs).filter(|(_, costs)| is_anything(costs)) {
        let _ = write!(
            out,
            "\nob={}\nfl={}\nfn={}\n",
            objects.refer(&object(function)),
            files.refer(&file(function)),
            names.refer(&function.shown()),
        );
        for (line, cost) in costs.own.iter().filter(|&(_, &cost)| cost > 0) {
            let _ = writeln!(out, "{line} {cost}");
        }
        for (&(line, callee), cost) in costs.calls.iter().filter(|&(_, &cost)| cost > 0) {
            let callee = functions[callee as usize];
            // How often a function was called is not known.
            let _ = write!(
                out,
                "cob={}\ncfi={}\ncfn={}\ncalls=1 0\n{line} {cost}\n",
                objects.refer(&object(callee)),
                files.refer(&file(callee)),
                names.refer(&callee.shown()),
            );
        }
    }
    Ok(out)
}
