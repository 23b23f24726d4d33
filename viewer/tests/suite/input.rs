//! Bad input: one line that says what is wrong, exit status 2, never a panic.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use pprof_export::encode_gzip;
use pprof_export::schema::Profile;

use crate::support::{Scratch, heapsift, output_of, service};

/// Asserts that every command refuses the file with one line that names it and has `part` in it.
fn refused(file: &str, part: &str) {
    let scratch = Scratch::new();
    let good = scratch.file("good.pb.gz", &service(40).gzip());
    let out = scratch.join("out");
    for words in [
        &["top", file] as &[&str],
        &["info", file],
        &["flame", file, "-o", &out],
        &["diff", file, &good],
        &["diff", &good, file],
        &["convert", "--to", "raw", file],
        &["symbolize", file, "-o", &out],
        &["top", "--base", file, &good],
    ] {
        let output = heapsift(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{words:?}: {errors}");
        assert!(errors.starts_with(&format!("heapsift: {file}: ")), "{words:?}: {errors}");
        assert!(errors.contains(part), "{words:?}: {errors}");
        assert!(output.stdout.is_empty());
    }
    assert!(!fs::exists(&out).unwrap());
}

#[test]
fn foreign_files() {
    let scratch = Scratch::new();
    refused(&scratch.join("absent"), "No such file");
    refused(&scratch.file("empty", b""), "empty");
    refused(&scratch.file("text", b"heap profile: but not really\n"), "not a profile");
    refused(env!("CARGO_BIN_EXE_heapsift"), "not a profile");
    fs::create_dir(scratch.path().join("bare")).unwrap();
    refused(&scratch.join("bare"), "the directory holds no dump");
}

#[test]
fn truncated_files() {
    let scratch = Scratch::new();
    let whole = service(40).gzip();
    for length in [1, 5, 10, whole.len() / 2, whole.len() - 9, whole.len() - 1] {
        refused(&scratch.file("cut", &whole[..length]), "");
    }
}

#[test]
fn damaged_files_never_crash() {
    let scratch = Scratch::new();
    let whole = service(40).gzip();
    let mut state = 1u64;
    for _ in 0..60 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut bytes = whole.clone();
        let at = (state >> 33) as usize % bytes.len();
        bytes[at] ^= 1 << (state >> 61);
        let file = scratch.file("bad", &bytes);
        let output = heapsift(&["top", &file]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 2)), "byte {at}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
    }
}

#[test]
fn profiles_that_contradict_themselves() {
    let scratch = Scratch::new();
    let broken = |change: &dyn Fn(&mut Profile)| {
        let mut profile = service(40).profile;
        change(&mut profile);
        scratch.file("broken", &encode_gzip(&profile))
    };
    refused(&broken(&|p| p.sample[0].value.truncate(3)), "sample");
    refused(&broken(&|p| p.sample[0].location_id[0] = 99), "location 99");
    refused(&broken(&|p| p.function[0].name = 1 << 40), "string");
    refused(&broken(&|p| p.location[1].id = p.location[0].id), "location");
}

#[test]
fn extreme_values_saturate() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    for sample in &mut builder.profile.sample {
        sample.value = vec![i64::MAX, i64::MAX, i64::MAX, i64::MAX];
        sample.label.clear();
    }
    builder.profile.sample[0].value = vec![i64::MIN; 4];
    builder.profile.time_nanos = i64::MIN;
    builder.profile.duration_nanos = i64::MIN;
    builder.profile.period = i64::MIN;
    let file = scratch.file("a.pb.gz", &builder.gzip());
    for words in [
        &["top", &file] as &[&str],
        &["top", "--json", &file],
        &["info", &file],
        &["diff", &file, &file],
        &["flame", &file, "-o", "-"],
        &["flame", "--diff-base", &file, &file, "-o", "-"],
        &["convert", "--to", "raw", &file],
        &["convert", "--to", "text", &file],
    ] {
        output_of(words);
    }
}

#[test]
fn unusable_arguments() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    for words in [
        &[] as &[&str],
        &["top"],
        &["nonsense"],
        &["top", "--no-such-option", &file],
        &["convert", "--to", "jpeg", &file],
        &["top", "--sample-index=nothing", &file],
    ] {
        assert_eq!(heapsift(words).status.code(), Some(2), "{words:?}");
    }
    let output = heapsift(&["top", "--sample-index=nothing", &file]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("there is no sample type nothing; it has alloc_objects, alloc_space"), "{errors}");
    assert_eq!(heapsift(&["--help"]).status.code(), Some(0));
    assert_eq!(heapsift(&["--version"]).status.code(), Some(0));
}

#[test]
fn stacks_that_are_cut_are_told() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    let names: Vec<String> = (0..5000).map(|number| format!("f{number}")).collect();
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.push("start");
    let deep = builder.stack(&names);
    builder.sampled(&deep, 2 << 20, 3);
    builder.sampled(&deep[1..], 2 << 20, 3);
    let file = scratch.file("a.pb.gz", &builder.gzip());
    names.reverse();
    let folded = scratch.file("a.folded", format!("main;f 7\n{} 9\n", names.join(";")).as_bytes());
    let out = scratch.join("out");
    let of_two = "2 stacks have more than 4096 frames and were cut at the root; --limit depth=N reads them whole";
    let of_one = "1 stack has more than 4096 frames and was cut at the root; --limit depth=N reads it whole";
    for (words, line) in [
        (&["top", &file] as &[&str], format!("{file}: {of_two}")),
        (&["top", &folded], format!("{folded}: {of_one}")),
        (&["info", &file], format!("{file}: {of_two}")),
        (&["symbolize", "-o", &out, &file], format!("{file}: {of_two}")),
        (&["merge", "-o", &out, &file, &file], of_two.replace('2', "4")),
        (&["merge", "-o", &out, &file, &file, "--limit", "depth=5000"], of_two.replace("4096", "5000")),
    ] {
        let output = heapsift(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && errors.starts_with(&format!("heapsift: {line}\n")), "{words:?}: {errors}");
    }
    for (depth, is_cut) in [("4096", true), ("5001", false)] {
        let output = heapsift(&["convert", "--to=folded", &file, "--limit", &format!("depth={depth}")]);
        assert_eq!(!output.stderr.is_empty(), is_cut);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("start;f4999;")).count(), if is_cut { 0 } else { 2 });
        assert_eq!(
            text.lines().filter(|line| line.starts_with("[truncated stack];")).count(),
            if is_cut { 2 } else { 0 }
        );
    }
}

#[test]
fn standard_input_and_directories() {
    let scratch = Scratch::new();
    let bytes = service(40).gzip();
    let direct = output_of(&["top", &scratch.file("heapsift.1.0.i0.heap.pb.gz", &bytes)]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_heapsift"))
        .args(["top", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap(), direct);

    // The newest dump of a directory, and a line that says which.
    std::thread::sleep(std::time::Duration::from_millis(20));
    scratch.file("heapsift.1.1.f.heap.pb.gz", &service(80).gzip());
    scratch.file("notes.txt", b"not a dump");
    let output = heapsift(&["top", scratch.path().to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("142 samples"), "{text}");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("heapsift.1.1.f.heap.pb.gz"), "{errors}");
}

/// A password in an address is for its server: not for a page or a table that others get to see, nor for a log.
#[test]
fn passwords_stay_with_the_server() {
    let scratch = Scratch::new();
    let profile = service(40).gzip();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head: Vec<String> =
                BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            // x:secret
            let is_known = head.iter().any(|line| line.to_lowercase() == "authorization: basic edpzzwnyzxq=");
            let status = if is_known && !head[0].contains("/broken") { "200 OK" } else { "403 Forbidden" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", profile.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&profile));
        }
    });
    let url = format!("http://x:secret@{host}/debug/pprof/heap");
    let (page, tables, sum) = (scratch.join("a.html"), scratch.join("tables"), scratch.join("sum.pb.gz"));
    let folded = scratch.file("a.folded", b"main;f 7\n");
    for words in [
        &["info", &url] as &[&str],
        &["top", &url],
        &["merge", "-o", &sum, &url, &folded],
        &["report", "-o", &page, &url],
        &["export", "--parquet", "-o", &tables, &url],
        &["top", &format!("http://x:secret@{host}/broken")],
        &["merge", "-o", &sum, &format!("http://x:secret@{host}/broken")],
        &["top", &format!("http://x:secret@{host}/a b")],
        &["top", "--sample-index=nothing", &url],
    ] {
        let output = heapsift(words);
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let is_right =
            !words.iter().any(|word| word.contains("broken") || word.contains(' ') || word.contains("nothing"));
        assert_eq!(output.status.success(), is_right, "{words:?}: {told}");
        assert!(!told.contains("secret") && !told.contains("the newest dump"), "{words:?}: {told}");
    }
    for file in [page, format!("{tables}/samples.parquet"), sum] {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(6).any(|part| part == b"secret"), "{file}");
    }
}

#[test]
fn a_closed_pipe_is_success() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    for index in 0..20_000 {
        let stack = builder.stack(&[&format!("function_{index}"), "main"]);
        builder.sampled(&stack, 1024, 1);
    }
    let file = scratch.file("a.pb.gz", &builder.gzip());
    let mut child = Command::new(env!("CARGO_BIN_EXE_heapsift"))
        .args(["top", "--nodefraction=0", &file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty());
}

#[test]
fn output_that_cannot_be_written() {
    let scratch = Scratch::new();
    let file = scratch.file("a.pb.gz", &service(40).gzip());
    let out = scratch.join("absent/a.svg");
    let output = heapsift(&["flame", &file, "-o", &out]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.starts_with(&format!("heapsift: {out}: cannot write: No such file")), "{errors}");
    let output = heapsift(&["top", &file, "-o", "/dev/full"]);
    assert_eq!(output.status.code(), Some(2));
}
