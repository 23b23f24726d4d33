//! Heap profiles in text form, as gperftools and tcmalloc write them, and Go with `debug=1`: one line
//! per stack with what is in use and what was allocated, then the memory map.
//!
//! The header's last word says how it was sampled: `heapprofile` and `growth` count everything,
//! `heap_v2/N` and `heapz_v2/N` sample every N bytes, `heap/N` every N/2. Estimates are pprof's.

use pprof_export::reader::{Limits, Source};
use pprof_export::schema::Profile;

use super::lines::{Fault, Lines, decimal, hexadecimal, shown, words};
use super::maps;
use super::scale::estimate;
use super::table::{HEAP, Table};

const FORMAT: &str = "heap profile";
const START: &[u8] = b"heap profile:";

fn fault(field: &'static str, reason: impl Into<String>) -> Fault {
    Fault::Field { format: FORMAT, field, reason: reason.into() }
}

/// Whether a content begins with a header of this kind.
pub fn is_header(start: &[u8]) -> bool {
    let line = start.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line.starts_with(START) && header(line).is_ok()
}

/// How a profile was sampled.
struct Header {
    period: u64,
    /// Whether what was allocated is known, rather than a copy of what is in use.
    has_allocated: bool,
    /// What all rows add up to.
    sums: [u64; 4],
}

fn header(line: &[u8]) -> Result<Header, Fault> {
    let rest = line.strip_prefix(START).unwrap_or_default();
    let close = rest.iter().position(|&byte| byte == b']');
    let Some((counts, rest)) = close.map(|at| (&rest[..at], &rest[at + 1..])) else {
        return Err(fault("header", "it has no counts"));
    };
    let [objects, bytes, all_objects, all_bytes] =
        four(counts).ok_or_else(|| fault("header", format!("{} are no counts", shown(counts))))?;
    let rest = rest.trim_ascii().strip_prefix(b"@").unwrap_or_default().trim_ascii();
    let (kind, period) = match rest.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&rest[..slash], decimal(&rest[slash + 1..])),
        None => (rest, Some(0)),
    };
    let Some(period) = period.filter(|&period| period <= i64::MAX as u64) else {
        return Err(fault("header", format!("{} has no period", shown(rest))));
    };
    let period = match kind {
        b"heapprofile" | b"growth" | b"growthz" | b"fragmentation" | b"fragmentationz" => 1,
        b"heap_v2" | b"heapz_v2" => period,
        b"heap" => period / 2,
        _ => return Err(fault("header", format!("{} is no known kind", shown(kind)))),
    };
    Ok(Header {
        period,
        sums: [objects, bytes, all_objects, all_bytes],
        has_allocated: (all_objects != objects && all_objects != 0) || (all_bytes != bytes && all_bytes != 0),
    })
}

/// `1: 2 [3: 4`: four numbers, as both text formats write them.
pub fn four(text: &[u8]) -> Option<[u64; 4]> {
    let open = text.iter().position(|&byte| byte == b'[')?;
    let pair = |text: &[u8]| {
        let colon = text.iter().position(|&byte| byte == b':')?;
        let number = |text: &[u8]| decimal(text.trim_ascii());
        Some((number(&text[..colon])?, number(&text[colon + 1..])?))
    };
    let (in_use, allocated) = (pair(&text[..open])?, pair(&text[open + 1..])?);
    Some([in_use.0, in_use.1, allocated.0, allocated.1])
}

/// Reads a whole profile.
pub fn read<S: Source>(lines: &mut Lines<S>, limits: &Limits) -> Result<Profile, Fault> {
    let header = header(lines.next()?.unwrap_or_default())?;
    let columns: &[(&str, &str)] = if header.has_allocated { &HEAP } else { &HEAP[2..] };
    let mut table = Table::new(columns, limits)?;
    table.period(header.period as i64)?;
    let mut stack = Vec::new();
    let mut has_map = false;
    let mut sums = [0u64; 4];
    while let Some(line) = lines.next()? {
        let line = line.trim_ascii();
        if maps::is_start(line) {
            has_map = true;
            break;
        }
        // Go adds names and statistics as comments.
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let counts = row(line, &header, &mut table, &mut stack)?;
        sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
    }
    if !lines.ends_in_newline() {
        return Err(fault("stack", "the file ends within a line: it was cut"));
    }
    if has_map {
        maps::read(lines, &mut table, FORMAT)?;
        maps::cut_allocator(&mut table);
    } else if sums.iter().zip(header.sums).any(|(&sum, all)| sum < all) {
        // Go's have no map: then it is the sums that tell whether any row is missing.
        return Err(fault("counts", "the rows are less than the header says: the file was cut"));
    }
    Ok(table.profile)
}

/// Adds a row; its four counts.
fn row(line: &[u8], header: &Header, table: &mut Table, stack: &mut Vec<u64>) -> Result<[u64; 4], Fault> {
    let close = line.iter().position(|&byte| byte == b']');
    let counts = close.and_then(|at| Some((four(&line[..at])?, line[at + 1..].trim_ascii())));
    let Some(([objects, bytes, all_objects, all_bytes], rest)) = counts else {
        return Err(fault("counts", format!("{} has none", shown(line))));
    };
    let Some(addresses) = rest.strip_prefix(b"@") else {
        return Err(fault("stack", format!("{} has none", shown(line))));
    };
    for (objects, bytes) in [(objects, bytes), (all_objects, all_bytes)] {
        if objects == 0 && bytes != 0 {
            return Err(fault("counts", format!("{bytes} bytes of no block")));
        }
    }
    stack.clear();
    for word in words(addresses) {
        let address = hexadecimal(word).ok_or_else(|| fault("stack", format!("{} is no address", shown(word))))?;
        stack.push(table.address(0, address.saturating_sub(1))?);
    }
    let (in_use, allocated) =
        (estimate(objects, bytes, header.period), estimate(all_objects, all_bytes, header.period));
    // Fractions are dropped, as pprof does it; the columns of the two tools are to be the same.
    let values = [allocated.objects, allocated.bytes, in_use.objects, in_use.bytes].map(|value| value as i64);
    let values = if header.has_allocated { &values[..] } else { &values[2..] };
    let size = bytes.checked_div(objects).or(all_bytes.checked_div(all_objects)).unwrap_or(0);
    let label = table.bytes_label(i64::try_from(size).unwrap_or(i64::MAX))?;
    table.row(stack, values, &[label])?;
    Ok([objects, bytes, all_objects, all_bytes])
}
