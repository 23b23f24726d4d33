//! Requests and their answers.

use core::ffi::CStr;

use alloc::vec::Vec;

use alloc_core::ctl::{self, Code};
use alloc_core::sys::Errno;

use super::write_to_passed;
use crate::kind::Kind;
use crate::{HEAP, dump, metrics};

/// Why a request failed: an error number of the system and a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub errno: i32,
    pub text: &'static [u8],
}

impl Failure {
    pub const fn new(errno: i32, text: &'static [u8]) -> Self {
        Failure { errno, text }
    }
}

type Body = Result<Vec<u8>, Failure>;

const ENOENT: i32 = 2;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;
const NO_MEMORY: Failure = Failure::new(12, b"no memory for the answer");
const OFF: Failure = Failure::new(ENOENT, b"profiling is off: enable it first");

/// Appends bytes, if there is memory for them.
pub fn put(body: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Failure> {
    body.try_reserve(bytes.len()).map_err(|_| NO_MEMORY)?;
    body.extend_from_slice(bytes);
    Ok(())
}

/// All commands, for `help`.
const HELP: &[u8] = b"get NAME            read a control name of mallctl\n\
set NAME [VALUE]    write it, or carry it out\n\
dump [KIND]         a profile: heap, peak, waste, lifetime, slack, rss; to a descriptor that is passed, or as the answer\n\
peak                dump peak\n\
stats [LETTERS]     as malloc_stats_print; J: JSON\n\
metrics             numbers as OpenMetrics text\n\
enable [BYTES]      switch profiling on, with so many bytes between samples\n\
disable             switch it off\n\
reset               forget all samples\n\
help                this text\n";

/// Answers a request, a line without its end. A dump goes to `passed`, if there is such a descriptor.
pub fn answer(line: &[u8], passed: Option<usize>) -> Body {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.contains(&0) {
        return Err(Failure::new(EINVAL, b"a zero byte in the request"));
    }
    let (command, rest) = split(line);
    match command {
        b"get" => get(rest),
        b"set" => {
            let (name, value) = split(rest);
            // An empty value is one: a prefix may be empty. Without the space there is none.
            set(name, (name.len() < rest.len()).then_some(value))
        }
        b"dump" => {
            let word = if rest.is_empty() { b"heap" } else { rest };
            let kind = Kind::by_name(word).ok_or(Failure::new(EINVAL, b"no such kind of dump: see help"))?;
            dump_of(kind, passed)
        }
        b"peak" => dump_of(Kind::Peak, passed),
        b"stats" => stats(rest),
        b"metrics" => in_memory(|sink| metrics::print(sink)),
        b"enable" => {
            if !rest.is_empty() {
                set(b"prof.sample", Some(rest))?;
            }
            set(b"prof.enable", Some(b"true"))
        }
        b"disable" => set(b"prof.enable", Some(b"false")),
        b"reset" => set(b"prof.reset", None),
        b"help" => in_memory(|sink| sink(HELP)),
        _ => Err(Failure::new(ENOSYS, b"no such command: see help")),
    }
}

/// A word, and what follows after one space.
fn split(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|&b| b == b' ').unwrap_or(text.len());
    (&text[..end], text.get(end + 1..).unwrap_or(b""))
}

/// What a function gives away piece by piece.
fn in_memory(give: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Body {
    let mut body = Vec::new();
    let mut result = Ok(());
    give(&mut |piece| {
        if result.is_ok() {
            result = put(&mut body, piece);
        }
    });
    result.map(|()| body)
}

fn get(name: &[u8]) -> Body {
    HEAP.ensure_booted();
    if name.starts_with(b"stats.") || name.starts_with(b"arenas.") {
        // Nobody wants the numbers of the last time.
        HEAP.refresh_snapshot();
    }
    let mut answered = Ok(());
    let mut body = in_memory(|sink| answered = ctl::by_name_as_text(&HEAP, name, None, Some(sink)))?;
    answered.map_err(|code| {
        explain(code, b"this name can't be read: set it", b"this name's value can't be said as text")
    })?;
    put(&mut body, b"\n")?;
    Ok(body)
}

fn set(name: &[u8], value: Option<&[u8]>) -> Body {
    HEAP.ensure_booted();
    let mut text = Vec::new();
    if let Some(value) = value {
        put(&mut text, value)?;
        put(&mut text, b"\0")?;
    }
    let value = value.and_then(|_| CStr::from_bytes_with_nul(&text).ok());
    let not_so = b"this name takes no value, or none without being read";
    ctl::by_name_as_text(&HEAP, name, value, None)
        .map_err(|code| explain(code, not_so, b"that isn't a value of this name"))?;
    Ok(Vec::new())
}

fn explain(code: Code, not_permitted: &'static [u8], invalid: &'static [u8]) -> Failure {
    let text = match code {
        Code::EPERM => not_permitted,
        Code::ENOENT => b"no such name, or not while profiling is off",
        Code::EAGAIN => b"not now: no memory for it",
        Code::EFAULT => b"it failed; the process's standard error may say why",
        Code::EINVAL => invalid,
        _ => b"it failed",
    };
    Failure::new(code.0, text)
}

fn dump_of(kind: Kind, passed: Option<usize>) -> Body {
    let profiler = HEAP.observer();
    if !crate::profile::is_enabled() {
        return Err(OFF);
    }
    if kind == Kind::Peak && !profiler.peak.is_found() {
        return Err(Failure::new(ENOENT, b"no peak is known: set prof.peak true first"));
    }
    // In memory first: a client that takes its time must not keep other dumps waiting.
    let body = dump::to_vec(kind).map_err(|Errno(errno)| Failure::new(errno, b"the dump can't be made"))?;
    let Some(fd) = passed else { return Ok(body) };
    write_to_passed(fd, &body)
        .map_err(|Errno(errno)| Failure::new(errno, b"the dump can't be written to the descriptor"))?;
    Ok(Vec::new())
}

fn stats(letters: &[u8]) -> Body {
    in_memory(|sink| {
        alloc_core::report::print(&HEAP, letters, &mut |piece| sink(piece.strip_suffix(b"\0").unwrap_or(piece)));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn text(request: &str) -> Result<String, (i32, String)> {
        answer(request.as_bytes(), None)
            .map(|body| String::from_utf8(body).unwrap())
            .map_err(|failure| (failure.errno, String::from_utf8(failure.text.to_vec()).unwrap()))
    }

    #[track_caller]
    fn errno(request: &str) -> i32 {
        text(request).expect_err(request).0
    }

    #[test]
    fn names_as_text() {
        assert_eq!(text("get opt.prof_prefix").unwrap(), "heapsift\n");
        assert_eq!(text("get opt.narenas").unwrap().trim().parse::<u32>().map(|n| n > 0), Ok(true));
        assert_eq!(text("get opt.stats_print_opts").unwrap(), "\n");
        assert_eq!(text("get arenas.page").unwrap(), "4096\n");
        assert_eq!(text("get prof.lg_sample\r").unwrap(), "19\n");
        assert_eq!(text("set arena.0.dirty_decay_ms 5000").unwrap(), "");
        assert_eq!(text("get arena.0.dirty_decay_ms").unwrap(), "5000\n");
        assert_eq!(text("set arena.0.dirty_decay_ms -1").unwrap(), "");
        assert_eq!(text("get arena.0.dirty_decay_ms").unwrap(), "-1\n");
        assert_eq!(text("set arena.0.name first one").unwrap(), "");
        assert_eq!(text("get arena.0.name").unwrap(), "first one\n");
        assert_eq!(text("set arena.0.purge").unwrap(), "");
        assert_eq!(text("get thread.allocatedp").unwrap().get(..2), Some("0x"));
        assert!(text("get stats.allocated").unwrap().trim().parse::<u64>().is_ok());
    }

    #[test]
    fn what_fails_says_why() {
        assert_eq!(errno("get no.such.name"), 2);
        assert_eq!(errno("get arena.0.purge"), 1);
        assert_eq!(errno("set arena.0.purge 1"), 1);
        assert_eq!(errno("set opt.narenas 3"), 1);
        assert_eq!(errno("set arenas.dirty_decay_ms many"), 22);
        assert_eq!(errno("set arenas.dirty_decay_ms -2"), 14);
        // Addresses are shown, but not taken.
        assert_eq!(errno("set arenas.lookup 4096"), 22);
        assert_eq!(errno("get experimental.utilization.query"), 22);
        assert_eq!(errno("set experimental.hooks.thread_event 1"), 22);
        assert_eq!(errno("dump nothing"), 22);
        assert_eq!(errno("set prof.prefix"), 2);
        assert_eq!(errno(""), 38);
        assert_eq!(errno("fetch"), 38);
        assert_eq!(errno("get a\0b"), 22);
    }

    #[test]
    fn help_names_every_kind() {
        let kinds = text("help").unwrap();
        for (name, _) in crate::kind::KINDS {
            assert!(kinds.contains(core::str::from_utf8(name).unwrap()), "{kinds}");
        }
    }

    #[test]
    fn statistics_in_both_forms() {
        assert!(text("stats").unwrap().contains("Allocated: "));
        let json = text("stats J").unwrap();
        assert!(json.starts_with('{') && json.trim_end().ends_with('}'), "{json}");
    }
}
