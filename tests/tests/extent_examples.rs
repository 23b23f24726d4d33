//! The example programs with extent hooks of their own, `capi/examples`: they do what they show.

use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::tools::Linkage;
use heapsift_tests::{Ended, Program, by_length, tools};

/// An example, built as somebody would build it.
fn example(name: &str, way: Linkage) -> PathBuf {
    way.compile(&format!("../capi/examples/{name}.c"))
}

/// The numbers in what a program said.
fn numbers(ended: &Ended) -> Vec<u64> {
    let text = ended.text();
    let words = text.split(|c: char| !c.is_ascii_digit());
    words.filter(|word| !word.is_empty()).map(|word| word.parse().expect("a number")).collect()
}

#[test]
fn an_arena_for_each_numa_node() {
    let online = fs::read_dir("/sys/devices/system/node").map_or(1, |entries| {
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.strip_prefix("node").is_some_and(|rest| rest.parse::<u32>().is_ok())).count()
    });
    for way in [Linkage::Shared, Linkage::Archive] {
        let program = example("numa_arena", way);
        let ended = Program::new(&program).run().expect_success();
        assert_eq!(ended.text().lines().count(), online.max(1), "{}", ended.text());
        for line in ended.text().lines() {
            assert!(line.starts_with("node ") && line.ends_with(", 0 after the arena's end"), "{line}");
        }
        let [_, blocks, held, mapped, 0, ..] = numbers(&ended)[..] else { panic!("{}", ended.text()) };
        assert!(blocks == 1000 && held > 6_000_000 && (held..held + (16 << 20)).contains(&mapped), "{}", ended.text());
        // What can't be bound is refused: such a node there is on no machine that runs tests.
        let ended = Program::new(&program).arg("63").run();
        assert_eq!((ended.status, ended.complaints().as_str()), (2, "numa_arena: node 63: Invalid argument\n"));
    }
}

/// What a program makes of a file with this input.
fn file_arena(program: &Path, verb: &str, file: &Path, input: &Path) -> Ended {
    Program::new(program).arg(verb).arg(file).input(input).run()
}

#[test]
fn what_a_file_holds_is_there_after_a_restart() {
    let scratch = Scratch::new("file-arena");
    let (file, input) = (scratch.join("words"), scratch.join("text"));
    for way in [Linkage::Shared, Linkage::Archive] {
        let program = example("file_arena", way);
        for round in [0u32, 1] {
            // The second time the file is there, and all that it holds is dropped. As many words as fill 40 MiB or so.
            let count = by_length(20_000u32, 500_000);
            let word = |i: u32| format!("word-{round}-{:08x}", i.wrapping_mul(0x9e37_79b9));
            let text: Vec<String> = (0..count).chain(0..count / 2).map(word).collect();
            fs::write(&input, text.join(" ")).expect("a scratch file");
            file_arena(&program, "write", &file, &input).expect_success();
            let told = file_arena(&program, "read", &file, &input).expect_success().text();
            let mut expected: Vec<String> =
                (0..count).map(|i| format!("{} {}", if i < count / 2 { 2 } else { 1 }, word(i))).collect();
            expected.sort_unstable_by(|a, b| a[2..].cmp(&b[2..]));
            assert!(told.lines().eq(expected.iter()), "{} words were read", told.lines().count());
        }
        // By the other build's process too, since the address is the file's.
        let other = example("file_arena", if way == Linkage::Shared { Linkage::Archive } else { Linkage::Shared });
        assert!(file_arena(&other, "read", &file, &input).expect_success().text().lines().count() > 10_000);
        let mut broken = fs::File::options().write(true).open(&file).expect("the file is there");
        let refused = |why: &str| {
            let ended = file_arena(&program, "read", &file, &input);
            assert_eq!(ended.status, 2);
            assert_eq!(ended.complaints(), format!("file_arena: {}: {why}\n", file.display()));
        };
        broken.set_len(1 << 20).expect("it can be cut short");
        refused("written by another version of file_arena, or cut short");
        broken.rewind().and_then(|()| broken.write_all(b"something else")).expect("it can be written");
        refused("not written by file_arena");
    }
}

#[test]
fn two_processes_share_an_arena() {
    for way in [Linkage::Shared, Linkage::Archive] {
        let count = by_length(20_000u64, 1_000_000);
        let ended = Program::new(example("shared_arena", way)).arg(count.to_string()).run().expect_success();
        let [sent, bytes, region] = numbers(&ended)[..] else { panic!("{}", ended.text()) };
        // The region is used again and again: it holds what is on its way, not all that ever was.
        assert!(sent == count && bytes > 1000 * count && region < 32 << 20, "{}", ended.text());
    }
}

#[test]
fn an_arena_of_huge_pages() {
    for way in [Linkage::Shared, Linkage::Archive] {
        let program = example("huge_arena", way);
        // The kernel may be short of them for a moment, or told to give none.
        let enough = (0..5).any(|_| {
            let ended = Program::new(&program).arg("64").run().expect_success();
            let [_, held, reserved, advised, huge, after] = numbers(&ended)[..] else { panic!("{}", ended.text()) };
            assert!(held >= 64 && (64..80).contains(&(reserved + advised)), "{}", ended.text());
            // One stays where a part of it is in no extent that was ever used.
            assert!(reserved > 0 || after < huge || huge < 32, "{}", ended.text());
            huge >= 32 || huge * 2 >= huge_pages_of_the_kernel(64)
        });
        assert!(enough, "{}", program.display());
    }
}

/// How many MiB of so many come in huge pages when a program asks for them.
fn huge_pages_of_the_kernel(megabytes: usize) -> u64 {
    let script = "import mmap, sys
length = int(sys.argv[1]) << 20
block = mmap.mmap(-1, length + (2 << 20), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
block.madvise(mmap.MADV_HUGEPAGE)
for page in range(0, length, 4096): block[page] = 1
print(sum(int(line.split()[1]) for line in open('/proc/self/smaps') if line.startswith('AnonHugePages:')) >> 10)";
    let Some(python) = tools::need("python3") else { return 0 };
    let ended = Program::new(python).args(["-c", script]).arg(megabytes.to_string()).run().expect_success();
    ended.text().trim().parse().expect("a number")
}
