//! Names of code that a just-in-time compiler made: from the file that it leaves for `perf`.
//!
//! Each line of `perf-<pid>.map` has a start and a length in hexadecimal and a name. Code is moved and thrown away, so that
//! lines overlap: the last one that covers an address wins, as in perf. A file that belongs to somebody else is refused, as
//! there, unless it lies in a directory that the user named; so is one that is too large to be read at once.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use memchr::memrchr_iter;
use pprof_export::schema::Profile;

use super::demangle::cut;
use super::find;
use super::module::Frame;

/// Larger files are refused: V8 writes some 100 bytes for each function it compiles.
const MAX_FILE: u64 = 256 << 20;

/// What is known of code in anonymous memory.
#[derive(Debug, Default)]
pub struct Answer {
    /// The frame of each location that got one.
    pub frames: Vec<(usize, Frame)>,
    /// The file that the names come from.
    pub file: Option<PathBuf>,
    /// Why there are none.
    pub reason: Option<String>,
}

/// The process whose map a dump notes: in the comment `perf map: /tmp/perf-<pid>.map`.
pub fn noted(profile: &Profile) -> Option<u32> {
    let text = |index: &i64| profile.string_table.get(usize::try_from(*index).ok()?);
    let comments = profile.comment.iter().filter_map(text);
    let path = comments.filter_map(|comment| comment.strip_prefix("perf map: /tmp/perf-")).next_back()?;
    path.strip_suffix(".map")?.parse().ok()
}

/// Whether a mapping stands for memory without a file, as perf sees it. A library may be loaded from memory, too: then it
/// has a build id, and may lie in a file somewhere.
pub fn is_anonymous(path: &str, build_id: &str) -> bool {
    let is_memory = ["/memfd:", "/dev/zero", "/anon_hugepage"].iter().any(|start| path.starts_with(start));
    path == "//anon" || is_memory && build_id.is_empty()
}

/// Looks the addresses of these locations up in the map of a process.
pub fn answer(pid: u32, queries: &[(usize, u64)], search: &[PathBuf]) -> Answer {
    let name = format!("perf-{pid}.map");
    let mut answer = Answer::default();
    let copies = search.iter().flat_map(|place| [place.join(&name), place.join("tmp").join(&name)]);
    let own = Path::new("/tmp").join(&name);
    for (path, is_copy) in copies.map(|path| (path, true)).chain([(own, false)]) {
        match read(&path, is_copy) {
            Ok(None) => {}
            Ok(Some(text)) => {
                answer.frames = look_up(&text, queries);
                answer.file = Some(path);
                answer.reason = None;
                return answer;
            }
            Err(reason) => answer.reason = Some(reason),
        }
    }
    answer.reason.get_or_insert_with(|| format!("no {name}"));
    answer
}

/// The whole file; nothing where there is none.
fn read(path: &Path, is_copy: bool) -> Result<Option<Vec<u8>>, String> {
    let failed = |reason: &str| format!("{}: {reason}", path.display());
    let file = match find::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&error.to_string())),
    };
    let metadata = file.metadata().map_err(|error| failed(&error.to_string()))?;
    // Files below /proc belong to the effective user of their process.
    let own = std::fs::metadata("/proc/self").map(|metadata| metadata.uid());
    if !is_copy && metadata.uid() != 0 && own.ok() != Some(metadata.uid()) {
        return Err(failed("belongs to somebody else; --search names a directory with a copy"));
    }
    let mut text = Vec::new();
    // It may grow meanwhile.
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(|error| failed(&error.to_string()))?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed("larger than 256 MiB"));
    }
    Ok(Some(text))
}

/// Reads the lines from the last to the first, so that each address is settled once, by the first line that covers it: the
/// time this takes does not depend on how lines overlap.
fn look_up(text: &[u8], queries: &[(usize, u64)]) -> Vec<(usize, Frame)> {
    let mut sorted = queries.to_vec();
    sorted.sort_unstable_by_key(|query| query.1);
    // For each query the next one at or behind it that has no name yet.
    let mut next: Vec<usize> = (0..=sorted.len()).collect();
    let mut found = Vec::new();
    let mut end = text.len();
    for at in memrchr_iter(b'\n', text).map(Some).chain([None]) {
        let line = &text[at.map_or(0, |at| at + 1)..end];
        end = at.unwrap_or(0);
        let Some((start, limit, name)) = entry(line) else { continue };
        let mut query = open(&mut next, sorted.partition_point(|query| query.1 < start));
        while query < sorted.len() && sorted[query].1 < limit {
            found.push((sorted[query].0, frame(name)));
            next[query] = query + 1;
            query = open(&mut next, query);
        }
        if open(&mut next, 0) == sorted.len() {
            break;
        }
    }
    found
}

/// The first query at or behind `at` without a name, shortening the way there.
fn open(next: &mut [usize], at: usize) -> usize {
    let mut end = at;
    while next[end] != end {
        end = next[end];
    }
    let mut step = at;
    while next[step] != step {
        step = std::mem::replace(&mut next[step], end);
    }
    end
}

/// First address, one past the last, and name of a line; none of one that is broken.
fn entry(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let mut number = || {
        let digits = std::str::from_utf8(words.next()?).ok()?;
        u64::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()
    };
    let (start, length) = (number()?, number()?);
    let name = words.next()?.trim_ascii();
    (!name.is_empty()).then_some((start, start.checked_add(length)?, name))
}

/// A name with what V8 and Python say of the place: `JS:*run /srv/app.js:12:3`, `py::run:/srv/app.py`. The sign for how well
/// V8 has compiled a function is left out: it is one function, compiled several times.
fn frame(name: &[u8]) -> Frame {
    let name = String::from_utf8_lossy(name);
    let name = cut(&name);
    if let Some(rest) = name.strip_prefix("JS:") {
        let rest = rest.strip_prefix(['~', '^', '+', '*']).unwrap_or(rest);
        let number = |text: &str| text.parse::<u32>().ok();
        let place = rest.rsplit_once(' ').and_then(|(function, place)| {
            let (place, column) = place.rsplit_once(':')?;
            let (file, line) = place.rsplit_once(':')?;
            Some((function, file, number(line)?, number(column)?))
        });
        return match place {
            Some((function, file, line, column)) => {
                Frame { function: format!("JS:{function}").into(), file: file.into(), line, column }
            }
            None => Frame { function: format!("JS:{rest}").into(), ..Frame::default() },
        };
    }
    let python =
        name.strip_prefix("py::").and_then(|rest| rest.rsplit_once(':')).filter(|(_, file)| file.contains('/'));
    match python {
        Some((function, file)) => {
            Frame { function: format!("py::{function}").into(), file: file.into(), ..Frame::default() }
        }
        None => Frame { function: name.into(), ..Frame::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &[u8], addresses: &[u64]) -> Vec<(usize, String)> {
        let queries: Vec<(usize, u64)> = addresses.iter().copied().enumerate().collect();
        let mut found: Vec<_> =
            look_up(text, &queries).into_iter().map(|(at, frame)| (at, frame.function.to_string())).collect();
        found.sort();
        found
    }

    #[test]
    fn the_last_line_that_covers_an_address_wins() {
        let text = b"1000 100 old\n1040 20 within\n2000 10 other\n0x1050 8 newest one\n";
        let wanted = [(0, "old"), (1, "within"), (2, "newest one"), (3, "within"), (5, "other")];
        let found = named(text, &[0x1000, 0x1040, 0x1050, 0x1058, 0x1100, 0x200f, 0x2010]);
        assert_eq!(found, wanted.map(|(at, name)| (at, name.to_owned())));
    }

    #[test]
    fn broken_lines_name_nothing() {
        let text = b"\n1000\n1000 10\n1000 10 \n1000 zz f\n-1 10 f\n10000000000000000 1 f\nffffffffffffffff 2 f\n 1000 10 f\n1000 0 f\n\xff\xfe";
        assert_eq!(named(text, &[0x1000, u64::MAX]), []);
        assert_eq!(named(b"1000 10 \xff\xfe", &[0x1001]), [(0, "\u{fffd}\u{fffd}".to_owned())]);
        assert_eq!(named(b"", &[1]), []);
    }

    #[test]
    fn lines_that_all_overlap_take_no_longer() {
        let addresses: Vec<u64> = (0..100_000).map(|n| n * 16).collect();
        let text = b"0 ffffffff f\n".repeat(300_000);
        assert_eq!(named(&text, &addresses).len(), addresses.len());
        // From the last line on, each names one address more.
        let text: String = (0..100_000u64).rev().map(|n| format!("0 {:x} f{n}\n", n * 16 + 1)).collect();
        assert_eq!(named(text.as_bytes(), &addresses)[99_999], (99_999, "f99999".to_owned()));
    }

    #[test]
    fn places_are_told_apart_from_names() {
        let frame = |name: &str| frame(name.as_bytes());
        let place = |function: &str, file: &str, line, column| Frame {
            function: function.into(),
            file: file.into(),
            line,
            column,
        };
        assert_eq!(frame("JS:*run /srv/app.js:12:3"), place("JS:run", "/srv/app.js", 12, 3));
        assert_eq!(frame("JS:~ node:internal/x:1:2"), place("JS:", "node:internal/x", 1, 2));
        assert_eq!(frame("JS:^odd"), place("JS:odd", "", 0, 0));
        assert_eq!(frame("py::run:/srv/app.py"), place("py::run", "/srv/app.py", 0, 0));
        assert_eq!(frame("Builtin:ArrayMap"), place("Builtin:ArrayMap", "", 0, 0));
    }

    #[test]
    fn only_the_file_of_a_process_is_noted() {
        let with = |comment: &str| Profile {
            string_table: vec![String::new(), comment.to_owned()],
            comment: vec![1],
            ..Profile::default()
        };
        assert_eq!(noted(&with("perf map: /tmp/perf-77.map")), Some(77));
        for comment in ["perf map: /tmp/perf-../x.map", "perf map: /etc/passwd", "perf map: /tmp/perf-.map", ""] {
            assert_eq!(noted(&with(comment)), None, "{comment}");
        }
    }
}
