//! Each target with what was found once, with its seeds, and with random changes of them: the same in each run.

use std::path::Path;

use targets::{Target, target};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

/// Changes one thing.
fn change(random: &mut Random, input: &mut Vec<u8>, words: &[&str], others: &[Vec<u8>]) {
    let at = random.below(input.len() + 1);
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff, b'0', b'-'][random.below(7)],
        2 => input.truncate(at),
        3 => drop(input.drain(at..(at + 1 + random.below(8)).min(input.len()))),
        4 => {
            let piece = input[at..(at + random.below(64)).min(input.len())].to_vec();
            let to = random.below(input.len() + 1);
            input.splice(to..to, piece);
        }
        5 | 6 if !words.is_empty() => {
            let word = words[random.below(words.len())];
            input.splice(at..at, word.bytes());
        }
        7 => {
            let other = &others[random.below(others.len())];
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.insert(at, random.below(256) as u8),
    }
    input.truncate(8192);
}

fn files(directory: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
}

fn explore(name: &str) {
    let Target { run, seeds, words, tries, .. } = target(name);
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions").join(name);
    let mut inputs = files(&found);
    inputs.extend(seeds());
    inputs.iter().for_each(|input| run(input));
    let is_long = std::env::var_os("HEAPSIFT_LONG").is_some_and(|value| value == "1");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..if is_long { tries * 20 } else { tries } {
        let mut input = inputs[random.below(inputs.len())].clone();
        for _ in 0..1 + random.below(6) {
            change(&mut random, &mut input, words, &inputs);
        }
        // Named if it fails, so that it can be kept.
        let done = std::panic::catch_unwind(|| run(&input));
        if done.is_err() {
            panic!("{name} fails with {:?}", String::from_utf8_lossy(&input));
        }
    }
}

macro_rules! tests {
    ($($name:ident)*) => { $(#[test] fn $name() { explore(stringify!($name)); })* };
}

tests! { malloc_conf mallctl operations pprof heap_v2 gperftools heaptrack maps elf_notes dwarf writers }

/// As a process with a socket, which it must be from its start: the test starts itself again.
fn with_socket(name: &str) {
    if std::env::var_os("MALLOC_CONF").is_some() {
        return explore(name);
    }
    let directory = tempfile::Builder::new()
        .prefix(&format!("heapsift-explore-{name}-"))
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .tempdir()
        .expect("a fresh directory");
    let output = std::process::Command::new(std::env::current_exe().expect("a process knows its file"))
        .args(["--exact", name])
        .env("MALLOC_CONF", "prof:true,prof_control:true")
        .env("XDG_RUNTIME_DIR", directory.path())
        .output()
        .expect("the test can be started");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn control() {
    with_socket("control");
}

#[test]
fn http() {
    with_socket("http");
}
