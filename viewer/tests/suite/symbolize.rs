//! `symbolize`: a copy with names, written whole or not at all.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{Builder, Scratch, heapsift, output_of, service};

/// A profile of this very test program, with one address in its `main`.
fn of_this_program() -> Builder {
    let mut builder = Builder::new();
    let program = std::env::current_exe().unwrap();
    // Where the loader put it, from the kernel's own list.
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains(program.to_str().unwrap()) && line.contains("r-xp")).unwrap();
    let mut fields = line.split_whitespace();
    let (start, limit) = fields.next().unwrap().split_once('-').unwrap();
    let offset = fields.nth(1).unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let id = builder.mapping(program.to_str().unwrap(), hex(start), "");
    let mapping = &mut builder.profile.mapping[id as usize - 1];
    (mapping.memory_limit, mapping.file_offset) = (hex(limit), hex(offset));
    let address = of_this_program as *const () as u64 + 1;
    let location = builder.location(address, &[]);
    builder.sampled(&[location], 4096, 10);
    builder
}

#[test]
fn a_copy_has_names() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &of_this_program().gzip());
    let out = scratch.join("named.pb.gz");
    output_of(&["symbolize", &file, "-o", &out]);
    let table = output_of(&["top", "--symbolize=none", &out]);
    assert!(table.contains("of_this_program"), "{table}");
    assert!(table.contains("suite/symbolize.rs:"), "{table}");
    // On the fly it is the same.
    assert_eq!(table, output_of(&["top", &file]));
}

#[test]
fn the_profile_itself_is_replaced_only_when_asked() {
    let scratch = Scratch::new();
    let before = of_this_program().gzip();
    let file = scratch.file("a.pb.gz", &before);
    for same in [file.clone(), scratch.join("../").trim_end_matches("../").to_owned() + "a.pb.gz"] {
        let output = heapsift(&["symbolize", &file, "-o", &same]);
        assert_eq!(output.status.code(), Some(2));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("use --in-place"), "{errors}");
    }
    assert_eq!(fs::read(&file).unwrap(), before);
    output_of(&["symbolize", "--in-place", &file]);
    assert!(output_of(&["top", "--symbolize=none", &file]).contains("of_this_program"));
    assert_eq!(heapsift(&["symbolize", &file]).status.code(), Some(2), "where to is not said");
}

#[test]
fn the_allocators_numbers_are_kept() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let out = scratch.join("b.pb.gz");
    output_of(&["symbolize", &file, "-o", &out]);
    assert!(output_of(&["info", &out]).contains("allocated            40MB"));
}

/// A server of debug files for as long as somebody asks it; what it was asked for.
struct Debuginfod {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Debuginfod {
    /// One that answers with this, head and body, whatever it is asked for.
    fn answering(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                noted.lock().unwrap().push(head.split_whitespace().nth(1).unwrap_or_default().to_owned());
                // Whoever asked may have had enough.
                let _ = stream.write_all(&answer);
            }
        });
        Self { url, asked }
    }

    fn with_file(file: &[u8]) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", file.len());
        Self::answering([head.as_bytes(), file].concat())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A stripped program, its debug file, and a profile with an address in its `work`; nothing where there are no tools.
fn stripped(scratch: &Scratch) -> Option<(String, Vec<u8>, String)> {
    let tool = |name: &str, words: &[&str]| {
        let output = Command::new(name).args(words).output().ok()?;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let source =
        scratch.file("work.c", b"int work(int n) { return n * 7; }\nint main(int n, char **a) { return work(n); }\n");
    let (program, debug) = (scratch.join("work"), scratch.join("work.apart"));
    let built = tool("gcc", &["-g", "-O0", "-Wl,--build-id=sha1", "-o", &program, &source]);
    let Some(symbols) = built.and_then(|_| tool("nm", &[&program])) else {
        println!("skipped: gcc or binutils are not installed");
        return None;
    };
    let line = symbols.lines().find(|line| line.ends_with(" work")).unwrap();
    let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    let notes = tool("readelf", &["-n", &program])?;
    let id = notes.split("Build ID: ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    tool("objcopy", &["--only-keep-debug", &program, &debug])?;
    tool("strip", &["--strip-all", &program])?;
    let file = fs::read(&debug).unwrap();
    fs::remove_file(&debug).unwrap();
    let mut builder = Builder::new();
    let mapping = builder.mapping(&program, 0, &id);
    // In the program's own address space.
    builder.profile.mapping[mapping as usize - 1].memory_limit = u64::MAX;
    let location = builder.location(address + 4, &[]);
    builder.sampled(&[location], 4096, 10);
    Some((id, file, scratch.file("work.pb.gz", &builder.gzip())))
}

/// `heapsift symbolize` with a cache of its own: whether `work` has its line, and what was said.
fn with_servers(scratch: &Scratch, profile: &str, words: &[&str], urls: &str) -> (bool, String) {
    let out = scratch.join("out.pb.gz");
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapsift"));
    command.args(["symbolize", profile, "-o", &out]).args(words);
    command.env("XDG_CACHE_HOME", scratch.join("cache")).env("DEBUGINFOD_URLS", urls);
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(2), "{told}");
        return (false, told);
    }
    (output_of(&["top", "--lines", "--symbolize=none", &out]).contains("work.c:1"), told)
}

#[test]
fn what_no_server_has_is_asked_for_once() {
    let scratch = Scratch::new();
    let Some((id, _, profile)) = stripped(&scratch) else { return };
    let empty =
        Debuginfod::answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec());
    let mut command = Command::new(env!("CARGO_BIN_EXE_heapsift"));
    command
        .args(["top", "--debuginfod", &empty.url, "--diff-base", &profile])
        .args([&profile; 4])
        .env("XDG_CACHE_HOME", scratch.join("cache"));
    let told = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert_eq!(empty.asked(), [format!("/buildid/{id}/debuginfo")]);
    assert_eq!((told.lines().count(), told.matches("404 Not Found").count()), (1, 1), "{told}");
}

#[test]
fn debug_files_are_fetched_when_asked() {
    let scratch = Scratch::new();
    let Some((id, file, profile)) = stripped(&scratch) else { return };
    let server = Debuginfod::with_file(&file);
    // Not asked, not fetched, whatever the environment says.
    let (is_named, told) = with_servers(&scratch, &profile, &[], &server.url);
    assert!(!is_named && told.contains("no debug file for build id"), "{told}");
    assert!(server.asked().is_empty());
    // The first server has nothing, the second has it.
    let empty =
        Debuginfod::answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec());
    let (is_named, told) = with_servers(&scratch, &profile, &["--debuginfod", &empty.url], "");
    assert!(!is_named && told.contains(&format!("{}: the server answers 404 Not Found", empty.url)), "{told}");
    let words = ["--debuginfod", &empty.url, "--debuginfod", &server.url];
    let (is_named, told) = with_servers(&scratch, &profile, &words, "");
    assert!(is_named, "{told}");
    assert_eq!(server.asked(), [format!("/buildid/{id}/debuginfo")]);
    let kept = fs::read(scratch.join(&format!("cache/heapsift/debuginfod/{id}"))).unwrap();
    assert!(kept == file);
    // Kept, so that nobody is asked again.
    assert!(with_servers(&scratch, &profile, &["--debuginfod=env"], &server.url).0);
    assert_eq!(server.asked().len(), 1);
    // By the environment's list, once that is asked for.
    fs::remove_dir_all(scratch.join("cache")).unwrap();
    assert!(with_servers(&scratch, &profile, &["--debuginfod=env"], &format!("ima:enforcing {}/", server.url)).0);
    assert_eq!(server.asked().len(), 2);
}

#[test]
fn what_servers_send_is_not_believed() {
    let scratch = Scratch::new();
    let Some((id, file, profile)) = stripped(&scratch) else { return };
    let cut = [b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", &file[..1000]].concat();
    let other = fs::read(env!("CARGO_BIN_EXE_heapsift")).unwrap();
    let large = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n".to_vec();
    for (server, reason) in [
        (Debuginfod::with_file(&other[..1 << 20]), "what it sends is no file with build id"),
        (Debuginfod::with_file(b""), "what it sends is no file with build id"),
        (Debuginfod::with_file(b"<html>no</html>"), "what it sends is no file with build id"),
        (Debuginfod::answering(cut), "what it sends is cut short"),
        (Debuginfod::answering(large), "what it sends is cut short"),
        (Debuginfod::answering(b"\x7fELF".to_vec()), "cannot fetch"),
    ] {
        let (is_named, told) = with_servers(&scratch, &profile, &["--debuginfod", &server.url], "");
        assert!(!is_named && told.contains(&format!("{}: {reason}", server.url)), "{reason}: {told}");
        assert!(told.contains(&id), "{told}");
        // Nothing of it is left.
        assert_eq!(fs::read_dir(scratch.join("cache/heapsift/debuginfod")).unwrap().count(), 0);
    }
    // Nobody there; and addresses that are none.
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_, told) = with_servers(&scratch, &profile, &["--debuginfod", &format!("http://{nobody}")], "");
    assert!(told.contains("cannot fetch"), "{told}");
    for (words, urls, reason) in [
        (["--debuginfod", "ftp://h"], "", "begins with http:// or https://"),
        (["--debuginfod", "/srv/debug"], "", "begins with http:// or https://"),
        (["--debuginfod", "env"], "", "$DEBUGINFOD_URLS names no server"),
        (["--debuginfod", "env"], "https:///h", "there is no host in this address"),
    ] {
        let (_, told) = with_servers(&scratch, &profile, &words, urls);
        assert!(told.contains(reason), "{words:?}: {told}");
    }
}
