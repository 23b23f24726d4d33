//! Names of numbered dumps: `<prefix>[.<namespace>].<pid>.<number>.<kind>[<number>]` and an ending, `.heap.pb.gz` for
//! most.

use alloc_core::first_thread::own_file;
use alloc_core::message::Decimal;
use alloc_core::sys::{self, extra};

use crate::settings::Path;

/// What starts a dump that nobody named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// `prof.dump` without a name.
    Manual,
    /// So many bytes have been allocated.
    Interval,
    /// More pages are in use than ever before.
    Maximum,
    /// So much time has passed.
    Time,
    /// A signal came.
    Signal,
    /// Resident memory has grown by so much.
    Resident,
    /// The memory limit of the cgroup is near.
    Limit,
    /// A dump of the peak: when it is asked for, or when the process ends.
    Peak,
    /// The process ends.
    Final,
}

/// Kinds whose dumps are counted by themselves: all but the final one, which there is one of.
const COUNTED: usize = Trigger::Final as usize;

impl Trigger {
    /// The letter in the name.
    pub const fn letter(self) -> &'static [u8] {
        match self {
            Trigger::Manual => b"m",
            Trigger::Interval => b"i",
            Trigger::Maximum => b"u",
            Trigger::Time => b"t",
            Trigger::Signal => b"s",
            Trigger::Resident => b"r",
            Trigger::Limit => b"c",
            Trigger::Peak => b"p",
            Trigger::Final => b"f",
        }
    }

    /// Whether the program itself waits for the dump, and hears of a failure.
    pub const fn is_for_a_caller(self) -> bool {
        matches!(self, Trigger::Manual | Trigger::Peak)
    }

    /// Whether somebody asked for this very dump: then it waits for one that is being written.
    pub const fn is_asked_for(self) -> bool {
        matches!(self, Trigger::Manual | Trigger::Signal | Trigger::Peak | Trigger::Final)
    }
}

/// How many dumps there were, for their names.
#[derive(Clone, Copy, Debug)]
pub struct Numbers {
    all: u64,
    by_trigger: [u64; COUNTED],
}

impl Numbers {
    /// None yet.
    pub const NONE: Self = Numbers { all: 0, by_trigger: [0; COUNTED] };

    /// Passes over numbers that are taken.
    pub fn skip(&mut self, count: u64) {
        self.all = self.all.saturating_add(count);
    }

    /// The next name, whose numbers are used up with it; `None` if it is too long.
    pub fn name(&mut self, prefix: &Path, with_namespace: bool, trigger: Trigger, ending: &[u8]) -> Option<Path> {
        let mut name = expand(prefix)?;
        let mut put = |text: &[u8]| name.push(text).then_some(());
        if with_namespace {
            put(b".")?;
            put(Decimal::new(pid_namespace()).as_bytes())?;
        }
        put(b".")?;
        put(Decimal::new(sys::getpid() as u64).as_bytes())?;
        put(b".")?;
        put(Decimal::new(self.all).as_bytes())?;
        put(b".")?;
        put(trigger.letter())?;
        self.all += 1;
        if let Some(number) = self.by_trigger.get_mut(trigger as usize) {
            put(Decimal::new(*number).as_bytes())?;
            *number += 1;
        }
        put(ending)?;
        Some(name)
    }
}

/// Fills in `%p` (process), `%h` (host), `%t` (seconds since 1970) and `%e` (the program's file name); `%%` is a `%`.
/// Anything else stays as it is. `None`: too long.
pub fn expand(pattern: &Path) -> Option<Path> {
    let mut result = Path::from_const(b"");
    let mut rest = pattern.as_bytes();
    while let Some(at) = rest.iter().position(|&b| b == b'%') {
        let (before, after) = rest.split_at(at);
        let mut put = |text: &[u8]| result.push(text).then_some(());
        put(before)?;
        rest = after.get(2..).unwrap_or(b"");
        match after.get(1) {
            Some(b'p') => put(Decimal::new(sys::getpid() as u64).as_bytes())?,
            Some(b't') => put(Decimal::new(sys::clock_realtime_ns() / 1_000_000_000).as_bytes())?,
            Some(b'%') => put(b"%")?,
            Some(b'h') => put_component(&mut result, &extra::host_name())?,
            Some(b'e') => {
                let mut buffer = [0; 512];
                put_component(&mut result, program_name(&mut buffer))?;
            }
            _ => put(&after[..after.len().min(2)])?,
        }
    }
    result.push(rest).then_some(result)
}

/// Appends a name of somebody else's choice up to a zero byte: nothing in it may lead to another directory.
fn put_component(path: &mut Path, name: &[u8]) -> Option<()> {
    for &byte in name.iter().take_while(|&&b| b != 0) {
        let byte = if byte == b'/' || byte.is_ascii_control() { b'_' } else { byte };
        path.push(&[byte]).then_some(())?;
    }
    Some(())
}

/// The name of the program's file, without its directory.
fn program_name(buffer: &mut [u8]) -> &[u8] {
    let path = extra::read_link(own_file(c"/proc/self/exe", c"/proc/thread-self/exe"), buffer).unwrap_or(b"");
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    path.rsplit(|&b| b == b'/').next().unwrap_or(b"")
}

/// The number of the pid namespace, as `/proc` tells it; 0 if it doesn't.
fn pid_namespace() -> u64 {
    let mut buffer = [0; 64];
    let link =
        extra::read_link(own_file(c"/proc/self/ns/pid", c"/proc/thread-self/ns/pid"), &mut buffer).unwrap_or(b"");
    link.iter().filter(|b| b.is_ascii_digit()).fold(0, |n: u64, b| n.wrapping_mul(10).wrapping_add(u64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    fn text(path: Path) -> String {
        String::from_utf8(path.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn names_count_up() {
        let prefix = Path::new(b"/tmp/p").unwrap();
        let mut numbers = Numbers::NONE;
        let pid = sys::getpid();
        let mut next = |trigger| text(numbers.name(&prefix, false, trigger, b".heap.pb.gz").unwrap());
        assert_eq!(next(Trigger::Manual), std::format!("/tmp/p.{pid}.0.m0.heap.pb.gz"));
        assert_eq!(next(Trigger::Interval), std::format!("/tmp/p.{pid}.1.i0.heap.pb.gz"));
        assert_eq!(next(Trigger::Interval), std::format!("/tmp/p.{pid}.2.i1.heap.pb.gz"));
        assert_eq!(next(Trigger::Maximum), std::format!("/tmp/p.{pid}.3.u0.heap.pb.gz"));
        assert_eq!(next(Trigger::Manual), std::format!("/tmp/p.{pid}.4.m1.heap.pb.gz"));
        assert_eq!(next(Trigger::Limit), std::format!("/tmp/p.{pid}.5.c0.heap.pb.gz"));
        assert_eq!(next(Trigger::Final), std::format!("/tmp/p.{pid}.6.f.heap.pb.gz"));
        let waste = text(numbers.name(&prefix, false, Trigger::Manual, b".waste.pb.gz").unwrap());
        assert_eq!(waste, std::format!("/tmp/p.{pid}.7.m2.waste.pb.gz"));
        numbers.skip(9);
        let name = text(numbers.name(&prefix, true, Trigger::Time, b".heap.pb.gz").unwrap());
        assert_eq!(name, std::format!("/tmp/p.{}.{pid}.17.t0.heap.pb.gz", pid_namespace()));
        assert!(pid_namespace() > 0);
    }

    #[test]
    fn patterns() {
        let expand = |pattern: &str| expand(&Path::new(pattern.as_bytes()).unwrap()).map(text);
        let same = |pattern: &str| assert_eq!(expand(pattern).as_deref(), Some(pattern));
        same("plain");
        same("");
        same("50%x and %");
        assert_eq!(expand("a%%p").as_deref(), Some("a%p"));
        assert_eq!(expand("d/%p/x"), Some(std::format!("d/{}/x", std::process::id())));
        let program = std::env::current_exe().unwrap();
        let program = program.file_name().unwrap().to_str().unwrap();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(expand("%e-%h"), Some(std::format!("{program}-{}", host.trim_end())));
        let now: u64 = expand("%t").unwrap().parse().unwrap();
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(clock - now < 60);
        assert_eq!(expand(&"%t".repeat(511)), None);
    }

    #[test]
    fn a_name_stays_in_its_directory() {
        let mut path = Path::new(b"/d/").unwrap();
        put_component(&mut path, b"../e\n\0rest").unwrap();
        assert_eq!(text(path), "/d/.._e_");
    }
}
