//! The memory map at the end of a text profile: a copy of `/proc/<pid>/maps`, or the short form that
//! gperftools also writes.

use pprof_export::reader::Source;
use pprof_export::schema::Mapping;

use super::lines::{Fault, Lines, hexadecimal, shown, words};
use super::table::Table;

/// A line of the map.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    start: u64,
    limit: u64,
    offset: u64,
    is_executable: bool,
    file: String,
}

/// Whether a line begins the map.
pub fn is_start(line: &[u8]) -> bool {
    line.starts_with(b"MAPPED_LIBRARIES:") || line.starts_with(b"--- Memory map:")
}

/// Reads the map up to the content's end and gives every address its mapping.
pub fn read<S: Source>(lines: &mut Lines<S>, table: &mut Table, format: &'static str) -> Result<(), Fault> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut variables: Vec<(String, String)> = Vec::new();
    while let Some(line) = lines.next()? {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if let Some(pair) = variable(line) {
            variables.push(pair);
            continue;
        }
        let entry = parse(line).map_err(|reason| Fault::Field {
            format,
            field: "MAPPED_LIBRARIES",
            reason: format!("{reason} in {}", shown(line)),
        })?;
        let Some(mut entry) = entry.filter(|entry| entry.is_executable) else {
            continue;
        };
        for (name, value) in &variables {
            entry.file = entry.file.replace(&format!("${name}"), value);
        }
        // The kernel splits a mapping where its pages differ in something that does not matter here.
        if let Some(last) = entries.last_mut()
            && last.limit == entry.start
            && last.file == entry.file
            && !entry.file.is_empty()
            && last.offset.checked_add(last.limit - last.start) == Some(entry.offset)
        {
            last.limit = entry.limit;
            continue;
        }
        entries.push(entry);
    }
    if !lines.ends_in_newline() {
        return Err(Fault::Field {
            format,
            field: "MAPPED_LIBRARIES",
            reason: "the file ends within a line: it was cut".to_owned(),
        });
    }
    for entry in &entries {
        let filename = table.string(if entry.file.is_empty() { "//anon" } else { &entry.file })?;
        table.mapping(Mapping {
            memory_start: entry.start,
            memory_limit: entry.limit,
            file_offset: entry.offset,
            filename,
            ..Mapping::default()
        })?;
    }
    let mut sorted: Vec<(u64, u64, u64)> =
        entries.iter().enumerate().map(|(index, entry)| (entry.start, entry.limit, index as u64 + 1)).collect();
    sorted.sort_unstable();
    for location in &mut table.profile.location {
        if location.address == 0 {
            continue;
        }
        let after = sorted.partition_point(|&(start, ..)| start <= location.address);
        if let Some(&(_, limit, id)) = sorted[..after].last()
            && location.address < limit
        {
            location.mapping_id = id;
        }
    }
    Ok(())
}

/// `build=/path`: an abbreviation that later lines use as `$build`.
fn variable(line: &[u8]) -> Option<(String, String)> {
    let at = line.iter().position(|&byte| byte == b'=')?;
    let (name, value) = (&line[..at], &line[at + 1..]);
    let is_name = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (is_name && !name.contains(&b'-')).then(|| (text(name), text(value)))
}

/// A line, or nothing where it is of no mapping.
fn parse(line: &[u8]) -> Result<Option<Entry>, &'static str> {
    let mut parts = words(line);
    let range = parts.next().ok_or("no range")?;
    let range = range.strip_suffix(b":").unwrap_or(range);
    let dash = range.iter().position(|&byte| byte == b'-').ok_or("no range of addresses")?;
    let number = |text: &[u8]| hexadecimal(text).ok_or("a bound that is not hexadecimal");
    let (start, limit) = (number(&range[..dash])?, number(&range[dash + 1..])?);
    if limit <= start {
        return Err("a range that ends before it starts");
    }
    // The short form has nothing but a file, and perhaps its offset.
    let Some(second) = parts.next() else {
        return Ok(None);
    };
    let is_mode = second.len() == 4 && second.iter().all(|byte| b"-rwxps".contains(byte));
    if !is_mode {
        let offset = parts.next().and_then(|word| word.strip_prefix(b"(@")?.strip_suffix(b")"));
        return Ok(Some(Entry {
            start,
            limit,
            offset: offset.and_then(hexadecimal).unwrap_or(0),
            is_executable: true,
            file: String::from_utf8_lossy(second).into_owned(),
        }));
    }
    let offset = parts.next().and_then(hexadecimal).ok_or("no file offset")?;
    let _device = parts.next().ok_or("no device")?;
    let inode = parts.next().ok_or("no inode")?;
    // The path is the rest of the line, blanks and all.
    let after = inode.as_ptr() as usize - line.as_ptr() as usize + inode.len();
    Ok(Some(Entry {
        start,
        limit,
        offset,
        is_executable: second[2] == b'x',
        file: String::from_utf8_lossy(line[after..].trim_ascii()).into_owned(),
    }))
}

/// Cuts, from the leaf end of all stacks, the frames that lie in an allocator's own library; the last
/// frame stays in any case.
pub fn cut_allocator(table: &mut Table) {
    let profile = &mut table.profile;
    let of_allocator: Vec<bool> = profile
        .mapping
        .iter()
        .map(|mapping| {
            let file = profile.string_table[mapping.filename as usize].as_str();
            let name = file.rsplit('/').next().unwrap_or(file);
            ["libjemalloc", "libtcmalloc"].iter().any(|known| name.starts_with(known))
        })
        .collect();
    if !of_allocator.contains(&true) {
        return;
    }
    let locations = &profile.location;
    let is_cut = |id: u64| {
        let mapping = locations[id as usize - 1].mapping_id;
        mapping != 0 && of_allocator[mapping as usize - 1]
    };
    for sample in &mut profile.sample {
        let inner = sample.location_id.iter().take_while(|&&id| is_cut(id)).count();
        let inner = inner.min(sample.location_id.len().saturating_sub(1));
        sample.location_id.drain(..inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_forms() {
        let line = b"7f00-8000 r-xp 00001000 fe:00 123   /usr/lib/a b.so (deleted)";
        let entry = parse(line).unwrap().unwrap();
        assert_eq!(entry.file, "/usr/lib/a b.so (deleted)");
        assert_eq!((entry.start, entry.limit, entry.offset), (0x7f00, 0x8000, 0x1000));
        let entry = parse(b"0x400000-0x500000: /bin/x (@f00)").unwrap().unwrap();
        assert_eq!((entry.file.as_str(), entry.offset), ("/bin/x", 0xf00));
        assert!(!parse(b"7f00-8000 r--p 0 0:0 0").unwrap().unwrap().is_executable);
        assert!(parse(b"8000-7f00 r-xp 0 0:0 0").is_err());
        assert!(parse(b"hello").is_err());
        assert!(variable(b"build=/x").is_some() && variable(b"7f00-8000 r=x").is_none());
    }
}
