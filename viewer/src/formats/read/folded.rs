//! Folded stacks: a line per stack, its frames root first with `;` between them, then a blank and the
//! value.

use pprof_export::reader::{Limits, Source};
use pprof_export::schema::Profile;

use super::lines::{Fault, Lines, shown};
use super::table::Table;

const FORMAT: &str = "folded stacks";

fn fault(field: &'static str, reason: impl Into<String>) -> Fault {
    Fault::Field { format: FORMAT, field, reason: reason.into() }
}

/// Stack and value of a line.
fn split(line: &[u8]) -> Option<(&str, i64)> {
    let text = std::str::from_utf8(line).ok()?;
    let (stack, value) = text.trim_end().rsplit_once(' ')?;
    // Some write fractions; bytes and blocks have none.
    let value: i64 = value.parse().ok()?;
    (!stack.trim().is_empty()).then_some((stack, value))
}

/// Whether a content looks like folded stacks: every whole line of its start is one.
pub fn is_folded(start: &[u8]) -> bool {
    let mut lines: Vec<&[u8]> = start.split(|&byte| byte == b'\n').collect();
    // The last one may go on. Where there is no other it is the only evidence.
    if lines.len() > 1 {
        lines.pop();
    }
    lines.retain(|line| !line.trim_ascii().is_empty());
    let has_frames = |line: &&[u8]| line.contains(&b';');
    lines.iter().all(|line| split(line).is_some()) && lines.iter().any(has_frames)
}

/// Reads all stacks.
pub fn read<S: Source>(lines: &mut Lines<S>, limits: &Limits) -> Result<Profile, Fault> {
    let mut table = Table::new(&[("inuse_space", "bytes")], limits)?;
    let mut stack = Vec::new();
    while let Some(line) = lines.next()? {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (frames, value) = split(line).ok_or_else(|| fault("value", format!("{} ends in none", shown(line))))?;
        stack.clear();
        for name in frames.rsplit(';') {
            let function = table.function(name, "")?;
            stack.push(table.named(function)?);
        }
        table.row(&stack, &[value], &[])?;
    }
    if !lines.ends_in_newline() {
        return Err(fault("value", "the file ends within a line: it was cut"));
    }
    Ok(table.profile)
}
