//! What is listed and shown: dumps that come, go and can't be read, differences, source lines.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use super::{Served, two_dumps};
use crate::support::{Scratch, heapsift, json_of, service};

#[test]
fn a_dump_that_cannot_be_read_is_a_line_with_its_reason() {
    let scratch = Scratch::new();
    let whole = service(40).gzip();
    scratch.file("heapsift.1.0.m0.heap.pb.gz", &whole);
    scratch.file("heapsift.1.1.m1.heap.pb.gz", &whole[..whole.len() / 2]);
    scratch.file("notes.txt", b"no dump by its name");
    scratch.file(".hidden.heap.pb.gz", &whole);
    let served = Served::new(&[scratch.path().to_str().unwrap()]);
    assert!(served.line.starts_with("serving 2 dumps at "), "{}", served.line);
    let list =
        served.list(|entries, _| entries.iter().all(|entry| entry["total"].is_u64() != entry["reason"].is_string()));
    let line = |list: &Value, name: &str| -> Value {
        list["entries"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone()
    };
    let (good, bad) = (line(&list, "heapsift.1.0.m0.heap.pb.gz"), line(&list, "heapsift.1.1.m1.heap.pb.gz"));
    assert_eq!((&good["reason"], &good["pid"], &good["kind"]), (&Value::Null, &json!(1), &json!("inuse_space")));
    assert!(bad["reason"].as_str().unwrap().contains("byte"), "{bad}");
    let shown = served.json(&format!("/data?new={}", good["id"]));
    assert_eq!((&shown["total"], &shown["types"][3]), (&good["total"], &json!("inuse_space")));
    let refused = served.get(&format!("/data?new={}&base={}", good["id"], bad["id"]));
    assert!(refused.status == 422 && refused.body.contains("heapsift.1.1.m1.heap.pb.gz: "), "{}", refused.body);
    // Once it is whole, it is like others.
    scratch.file("heapsift.1.1.m1.heap.pb.gz", &whole);
    let list = served.list(|entries, _| entries.iter().all(|entry| entry["total"].is_u64()));
    assert_eq!(served.json("/dumps"), list);
    assert_eq!(served.json(&format!("/dumps?seen={}", list["revision"])), json!({"revision": list["revision"]}));
    assert_eq!(served.get(&format!("/data?new={}&base={}", good["id"], bad["id"])).status, 200);
}

#[test]
fn a_pipe_keeps_nobody_waiting() {
    let scratch = Scratch::new();
    let make_pipe = |path: &str| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let (pipe, file) = (scratch.join("pipe"), scratch.file("a.pb.gz", &service(40).gzip()));
    make_pipe(&pipe);
    let output = heapsift(&["serve", &pipe]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.starts_with(&format!("heapsift: {pipe}: ")) && errors.ends_with("must be a file\n"), "{errors}");
    // Nor does one that has come in a file's place, whether the list has been made anew or not.
    let served = Served::new(&[&file]);
    fs::remove_file(&file).unwrap();
    make_pipe(&file);
    for _ in 0..2 {
        let refused = served.get("/data?new=1");
        assert!(refused.status == 422 && refused.body.contains("no file any more"), "{}", refused.body);
        let list = served.json("/dumps");
        assert_eq!(list["entries"][0]["reason"], "it is no file any more", "{list}");
    }
}

#[test]
fn new_dumps_appear_and_old_ones_go() {
    let scratch = Scratch::new();
    let directory = scratch.join("dumps");
    fs::create_dir(&directory).unwrap();
    let served = Served::new(&[&directory]);
    assert!(served.line.starts_with("serving 0 dumps at "), "{}", served.line);
    assert_eq!(served.json("/dumps")["entries"], json!([]));
    for number in 0..3u32 {
        let mut builder = service(10 * (number + 1));
        builder.profile.time_nanos += i64::from(number) * 1_000_000_000;
        // As the library does it: under another name first.
        let temporary = scratch.file("dumps/.temporary", &builder.gzip());
        fs::rename(temporary, scratch.join(&format!("dumps/heapsift.7.{number}.i{number}.heap.pb.gz"))).unwrap();
        served.list(|entries, _| {
            entries.len() == number as usize + 1 && entries.iter().all(|entry| entry["total"].is_u64())
        });
    }
    let last = served.id("7.2.i2.heap.pb.gz");
    let (data, trend) = (served.json(&format!("/data?new={last}")), served.json(&format!("/trend?new={last}")));
    assert_eq!((&data["trend"], &data["diff"]), (&json!("later"), &Value::Null));
    assert_eq!(trend["x"].as_array().unwrap().len(), 3);
    assert_eq!(trend["sites"][0]["values"][2], data["total"]);
    // One that is replaced is read again.
    scratch.file("dumps/heapsift.7.2.i2.heap.pb.gz", &service(500).gzip());
    let before = data["total"].as_i64().unwrap();
    served
        .list(|entries, _| entries.iter().any(|entry| entry["total"].as_i64().is_some_and(|total| total > 2 * before)));
    assert!(served.json(&format!("/data?new={last}"))["total"].as_i64().unwrap() > 2 * before);
    // One that is gone is gone.
    fs::remove_file(scratch.join("dumps/heapsift.7.2.i2.heap.pb.gz")).unwrap();
    served.list(|entries, _| entries.len() == 2);
    assert_eq!(served.get(&format!("/data?new={last}")).status, 404);
    fs::remove_dir_all(&directory).unwrap();
    let list = served.list(|entries, problems| entries.is_empty() && !problems.as_array().unwrap().is_empty());
    assert!(list["problems"][0]["reason"].as_str().unwrap().starts_with("cannot be read: "), "{list}");
}

#[test]
fn differences_and_lines_are_those_of_diff_and_list() {
    let scratch = Scratch::new();
    let [base, new] = two_dumps(&scratch);
    fs::create_dir(scratch.join("src")).unwrap();
    let source: String = (1..=12).map(|line| format!("line {line}\t<b>\n")).collect();
    scratch.file("src/main.c", source.as_bytes());
    let place = scratch.path().to_str().unwrap();
    let served = Served::new(&[&base, &new, "--source-path", place]);
    let (base_id, new_id) = (served.id(&base), served.id(&new));
    for kind in ["inuse_space", "alloc_objects"] {
        let shown = served.json(&format!("/data?new={new_id}&base={base_id}&type={kind}"));
        let told = json_of(&["diff", &base, &new, "--json", "--sample-index", kind]);
        let told = told["rows"].as_array().unwrap();
        let rows = shown["diff"]["rows"].as_array().unwrap();
        assert!(!rows.is_empty() && rows.len() == told.len(), "{rows:?}");
        for (row, told) in rows.iter().zip(told) {
            for (ours, theirs) in [
                ("name", "name"),
                ("delta", "delta"),
                ("base", "base"),
                ("now", "new"),
                ("kind", "kind"),
                ("p", "noise_p"),
                ("q", "noise_q"),
            ] {
                let theirs = told.get(theirs).unwrap_or_else(|| panic!("{theirs} is not in {told}"));
                let theirs = if theirs.is_object() { &theirs["value"] } else { theirs };
                assert_eq!(&row[ours], theirs, "{ours} of {row} and {told}");
            }
        }
    }
    let shown = served.json(&format!("/source?new={new_id}&function=remember&type=inuse_space"));
    let told = json_of(&["list", "^remember$", &new, "--json", "--source-path", place]);
    let lines = shown["functions"][0]["lines"].as_array().unwrap();
    let hot: Vec<&Value> = lines.iter().filter(|line| line["cum"][0] != 0).collect();
    let told = told["functions"][0]["lines"].as_array().unwrap();
    assert_eq!((hot.len(), told.len()), (1, 1));
    assert_eq!((&hot[0]["line"], &hot[0]["flat"][0]), (&told[0]["line"], &told[0]["flat"]["value"]));
    assert_eq!((&hot[0]["text"], &hot[0]["text"]), (&told[0]["source"], &json!("line 5\t<b>")));
    // With lines around it, and both sides where there are two.
    assert_eq!((lines[0]["line"].as_i64(), lines.len()), (Some(1), 10));
    let both = served.json(&format!("/source?new={new_id}&base={base_id}&file=src/main.c"));
    let names: Vec<&Value> = both["functions"].as_array().unwrap().iter().map(|part| &part["function"]).collect();
    assert_eq!(names, ["insert", "main", "remember"]);
    let change = &both["functions"][2]["lines"].as_array().unwrap()[4]["cum"];
    assert_eq!((&change[0], change[0].as_i64().unwrap() / change[1].as_i64().unwrap()), (&hot[0]["cum"][0], 3));
}
