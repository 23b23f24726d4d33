//! Whether two symbolizers say the same of each address: all inlined functions, in order, with file and line.

use std::path::Path;

use pprof_export::reader::{self, Limits};

use super::inputs::output_of;
use crate::{Failure, Outcome, fail};

/// A frame: the linker's name of a function, a file and a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The function; "" where it is not known.
    pub function: String,
    /// The file; "" where it is not known.
    pub file: String,
    /// The line, 0 if unknown.
    pub line: i64,
}

/// What llvm-symbolizer says of addresses, given a line each in a file.
pub fn llvm(symbolizer: &str, program: &Path, addresses: &Path) -> Outcome<Vec<Vec<Frame>>> {
    let program = format!("--obj={}", program.display());
    let input = format!("@{}", addresses.display());
    let words = [&program, "--functions=linkage", "--no-demangle", "--inlines", &input];
    parse(&String::from_utf8_lossy(&output_of(symbolizer, &words)?))
}

/// Reads blocks of two lines a frame, with an empty line behind each.
fn parse(text: &str) -> Outcome<Vec<Vec<Frame>>> {
    let mut all = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let lines: Vec<&str> = block.trim_start_matches('\n').lines().collect();
        let frames = lines.chunks(2).map(|pair| {
            let [function, place] = pair else { return fail(format!("half a frame: {block}")) };
            // file:line:column
            let mut parts = place.rsplitn(3, ':').skip(1);
            let (line, file) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let known = |text: &str| if text == "??" { String::new() } else { text.to_owned() };
            Ok(Frame { function: known(function), file: known(file), line: line.parse().unwrap_or(0) })
        });
        all.push(frames.collect::<Outcome<Vec<_>>>()?);
    }
    Ok(all)
}

/// What a profile says of its locations, in their order.
pub fn named(profile: &Path) -> Outcome<Vec<Vec<Frame>>> {
    let bytes = std::fs::read(profile).map_err(|error| Failure(format!("{}: {error}", profile.display())))?;
    let message = reader::decode(&bytes, &Limits::DEFAULT).map_err(|error| Failure(error.to_string()))?;
    let text = |index: i64| message.string_table.get(index as usize).cloned().unwrap_or_default();
    let of = |line: &pprof_export::schema::Line| {
        // Ids are dense, from 1.
        let function = message.function.get(line.function_id as usize - 1);
        let (name, file) = function.map_or((0, 0), |function| (function.system_name, function.filename));
        Frame { function: text(name), file: text(file), line: line.line }
    };
    Ok(message.location.iter().map(|location| location.line.iter().map(of).collect()).collect())
}

/// How two answers to the same questions compare.
#[derive(Debug, Default)]
pub struct Agreement {
    /// Addresses.
    pub all: usize,
    /// Those with the same inlined functions in the same order, in one more function.
    pub same_inlines: usize,
    /// Those of which that function has the same name too.
    pub same_functions: usize,
    /// Those of which files and lines are the same too.
    pub same_lines: usize,
    /// The mean number of frames.
    pub frames: f64,
    /// The first few that differ: the address's position, one answer and the other.
    pub differing: Vec<(usize, Vec<Frame>, Vec<Frame>)>,
}

/// A function's name without what tells its copies apart: llvm-symbolizer takes the outermost frame's name from the symbol
/// table, which has `f.cold` and `f.isra.0`, and of a constructor's two names the other one. (Of functions that the
/// compiler found to be the same code it has all names, and one of them is taken; that is counted as different.)
fn plain(name: &str) -> String {
    let mut name = name.split('.').next().unwrap_or_default().to_owned();
    for copy in ["C2E", "C3E", "C4E", "D0E", "D2E", "D4E"] {
        name = name.replace(copy, &format!("{}1E", &copy[..1]));
    }
    name
}

/// Compares what one side says with what the other does.
pub fn compare(ours: Vec<Vec<Frame>>, theirs: Vec<Vec<Frame>>) -> Outcome<Agreement> {
    if ours.len() != theirs.len() {
        return fail(format!("{} answers and {}", ours.len(), theirs.len()));
    }
    let mut agreement = Agreement { all: ours.len(), ..Agreement::default() };
    let mut frames = 0;
    for (position, (mut ours, mut theirs)) in ours.into_iter().zip(theirs).enumerate() {
        // Where no function is known, there may be a line of nobody's.
        theirs.retain(|frame| !frame.function.is_empty());
        for outermost in [ours.last_mut(), theirs.last_mut()].into_iter().flatten() {
            outermost.function = plain(&outermost.function);
        }
        frames += theirs.len();
        let functions = |frames: &[Frame]| frames.iter().map(|frame| frame.function.clone()).collect::<Vec<_>>();
        let (a, b) = (functions(&ours), functions(&theirs));
        let is_same =
            a.len() == b.len() && a.split_last().map(|(_, rest)| rest) == b.split_last().map(|(_, rest)| rest);
        agreement.same_inlines += usize::from(is_same);
        agreement.same_functions += usize::from(a == b);
        agreement.same_lines += usize::from(ours == theirs);
        if ours != theirs && agreement.differing.len() < 10 {
            agreement.differing.push((position, ours, theirs));
        }
    }
    agreement.frames = frames as f64 / agreement.all.max(1) as f64;
    Ok(agreement)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_compared() {
        let text = "f\n/src/a.cc:3:7\nmain\n/src/b:c.cc:12:0\n\n??\n??:0:0\n\n";
        let frame =
            |function: &str, file: &str, line| Frame { function: function.to_owned(), file: file.to_owned(), line };
        let read = parse(text).unwrap();
        assert_eq!(read[0], [frame("f", "/src/a.cc", 3), frame("main", "/src/b:c.cc", 12)]);
        assert_eq!(read[1], [frame("", "", 0)]);
        let ours = vec![vec![frame("f", "/src/a.cc", 4), frame("main", "/src/b:c.cc", 12)], vec![]];
        let found = compare(ours, read).unwrap();
        let counts = (found.all, found.same_inlines, found.same_functions, found.same_lines);
        assert_eq!((counts, found.frames), ((2, 2, 2, 1), 1.0));
        assert_eq!(found.differing.len(), 1);
        assert!(compare(vec![], vec![vec![]]).is_err());
        assert_eq!(plain("_ZN1AC2Ev.cold"), plain("_ZN1AC1Ev"));
        assert_ne!(plain("_ZN1AD1Ev"), plain("_ZN1AC1Ev"));
    }
}
