//! `serve`, asked by those who may and by those who may not.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::browser::{at, drive, picture};
use crate::support::{Builder, Frame, Scratch, heapsift, holds, json_of, service};

/// A server, ended with the test.
struct Served {
    child: Child,
    /// `127.0.0.1:PORT`.
    address: String,
    token: String,
    line: String,
}

impl Served {
    fn new(words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_heapsift"))
            .arg("serve")
            .args(words)
            .env_remove("MALLOC_CONF")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let rest = line.trim_end().split("http://").nth(1).unwrap_or_else(|| panic!("it says {line:?}"));
        let (address, token) = rest.split_once("/?token=").unwrap();
        let (address, token) = (address.to_owned(), token.to_owned());
        Self { child, address, token, line }
    }

    /// Sends these bytes; the answer.
    fn exchange(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: Headers<'_>) -> Answer {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        self.exchange(&format!("{request}\r\n"))
    }

    /// As the page asks.
    fn get(&self, path: &str) -> Answer {
        let cookie = format!("heapsift-{}={}", self.address.rsplit(':').next().unwrap(), self.token);
        self.ask("GET", path, &[("Host", &self.address), ("Cookie", &cookie), ("Sec-Fetch-Site", "same-origin")])
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The list once something holds of it.
    #[track_caller]
    fn list(&self, holds: impl Fn(&[Value], &Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let list = self.json("/dumps");
            if holds(list["entries"].as_array().unwrap(), &list["problems"]) {
                return list;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "{list:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The number of a profile by the end of its name.
    #[track_caller]
    fn id(&self, name: &str) -> u64 {
        let list = self.json("/dumps");
        let found =
            list["entries"].as_array().unwrap().iter().find(|entry| entry["name"].as_str().unwrap().ends_with(name));
        found.unwrap_or_else(|| panic!("{name} is not in {list:#}"))["id"].as_u64().unwrap()
    }

    /// The most memory that it has had, in KiB.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Names and values.
type Headers<'a> = &'a [(&'a str, &'a str)];

/// Status, headers in lower case, body.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Self {
        let mut all = Vec::new();
        // One that was refused in the middle of its request may be cut off after the answer.
        if let Err(error) = stream.read_to_end(&mut all) {
            assert!(!all.is_empty(), "{error}");
        }
        let text = String::from_utf8_lossy(&all);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?} is no answer"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap();
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Self { status, headers: headers.collect(), body: body.to_owned() }
    }
}

fn scene() -> (Scratch, String) {
    let scratch = Scratch::new();
    let file = scratch.file("one.pb.gz", &service(40).gzip());
    (scratch, file)
}

#[test]
fn who_has_the_token_is_served_and_nobody_else() {
    let (_scratch, file) = scene();
    let served = Served::new(&[&file]);
    let Served { address, token, line, .. } = &served;
    assert_eq!(*line, format!("serving 1 dump at http://{address}/?token={token}\n"));
    assert!(token.len() == 32 && address.starts_with("127.0.0.1:"), "{line}");
    let port = address.rsplit(':').next().unwrap();
    let host = ("Host", address.as_str());
    let with = format!("/?token={token}");

    let page = served.ask("GET", &with, &[host]);
    assert_eq!(page.status, 200, "{}", page.body);
    let cookie = &page.headers["set-cookie"];
    assert_eq!(*cookie, format!("heapsift-{port}={token}; HttpOnly; SameSite=Strict; Path=/"));
    // Nothing of it is kept, guessed at, framed, or told to others; only its own script runs.
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        assert_eq!(page.headers[name], value);
    }
    let policy = &page.headers["content-security-policy"];
    let nonce = policy.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    assert!(page.body.contains(&format!("<script nonce=\"{nonce}\">")) && nonce.len() == 32);
    assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    assert!(!page.body.contains(token.as_str()) && !page.body.contains("remember"));
    let again = served.ask("GET", &with, &[host]);
    assert!(!again.headers["content-security-policy"].contains(nonce), "a nonce is used once");

    let cookie = cookie.split(';').next().unwrap();
    for path in ["/", "/dumps", "/data?new=1"] {
        let answer = served.ask("GET", path, &[host, ("Cookie", cookie)]);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(!answer.headers.contains_key("set-cookie"));
        let answer = served.ask("GET", path, &[host, ("Authorization", &format!("Bearer {token}"))]);
        assert_eq!(answer.status, 200, "{path}");
    }
    let head = served.ask("HEAD", "/dumps", &[host, ("Cookie", cookie)]);
    assert!(head.status == 200 && head.body.is_empty());
    for name in ["localhost", "[::1]", "127.0.0.1"] {
        let tunnel = format!("{name}:8080");
        assert_eq!(served.ask("GET", "/dumps", &[("Host", &tunnel), ("Cookie", cookie)]).status, 200, "{tunnel}");
    }

    let wrong = format!("heapsift-{port}={}", "0".repeat(32));
    let short = format!("/?token={}", &token[..31]);
    let own_origin = format!("http://{address}");
    let refused: &[(&str, &str, Headers<'_>)] = &[
        ("GET", "/", &[host]),
        ("GET", "/dumps", &[host]),
        ("GET", "/data?new=1", &[host]),
        ("GET", "/nothing", &[host]),
        ("GET", "/?token=", &[host]),
        ("GET", &short, &[host]),
        ("GET", "/", &[host, ("Cookie", &wrong)]),
        ("GET", &with, &[("Host", "evil.example")]),
        ("GET", &with, &[("Host", "evil.example:80")]),
        ("GET", &with, &[("Host", "127.0.0.1.evil.example")]),
        ("GET", &with, &[("Host", "")]),
        ("GET", &with, &[]),
        ("GET", &format!("http://evil.example{with}"), &[host]),
        ("GET", &with, &[host, ("Origin", "http://evil.example")]),
        ("GET", &with, &[host, ("Origin", "http://127.0.0.1:1")]),
        ("GET", &with, &[host, ("Origin", "null")]),
        (
            "GET",
            "/data?new=1",
            &[host, ("Cookie", cookie), ("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
        ),
        ("POST", "/take?of=1", &[host, ("Cookie", cookie)]),
        ("POST", "/take?of=1", &[host, ("Origin", &own_origin)]),
    ];
    for (method, path, headers) in refused {
        let answer = served.ask(method, path, headers);
        assert_eq!(answer.status, 403, "{method} {path} {headers:?}: {}", answer.body);
        assert_eq!(
            (answer.headers["cache-control"].as_str(), answer.headers["x-content-type-options"].as_str()),
            ("no-store", "nosniff")
        );
        assert!(!answer.headers.contains_key("set-cookie") && !answer.body.contains(token.as_str()));
    }
}

#[test]
fn addresses_and_tokens_are_chosen_with_care() {
    let (scratch, file) = scene();
    let refused = |words: &[&str]| {
        let output = heapsift(&[&["serve"], words, &[&file]].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--listen", "0.0.0.0:0"]).contains("give a --token"));
    assert!(refused(&["--token", "short"]).contains("at least 16 characters"));
    assert!(refused(&["--focus", "("]).contains("not a regular expression"));
    assert!(refused(&["/nowhere"]).contains("/nowhere: cannot read"));
    assert!(refused(&["4000000000"]).contains("there is no process"));
    // A token of one's own isn't printed: who starts it knows it.
    let token = "a token+with/odd=characters&;";
    let file_of_token = scratch.file("token", format!("{token}\nmore\n").as_bytes());
    let served = Served::new(&["--listen", "127.0.0.1:0", "--token", &format!("@{file_of_token}"), &file]);
    assert_eq!(served.token, "…");
    let host = ("Host", served.address.as_str());
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let page = served.ask("GET", &format!("/?token={encoded}"), &[host]);
    assert_eq!(page.status, 200);
    let cookie = page.headers["set-cookie"].split(';').next().unwrap();
    assert_eq!(served.ask("GET", "/dumps", &[host, ("Cookie", cookie)]).status, 200);
    assert_eq!(served.ask("GET", "/dumps", &[host]).status, 403);
}

#[test]
fn no_path_leads_anywhere() {
    let scratch = Scratch::new();
    let mut builder = service(40);
    let hostile = builder.location(0x40_8000, &[Frame("hostile", "/etc/passwd", 1)]);
    let above = builder.location(0x40_9000, &[Frame("above", "../../../../../../etc/passwd", 1)]);
    builder.sampled(&[hostile, above], 1024, 30);
    scratch.file("secret.heap", b"secret");
    fs::create_dir(scratch.join("dumps")).unwrap();
    scratch.file("dumps/one.pb.gz", &builder.gzip());
    let served = Served::new(&[&scratch.join("dumps"), "--source-path", &scratch.join("dumps")]);
    assert!(served.json("/data?new=1")["names"].to_string().contains("hostile"));
    for path in [
        "/../secret.heap",
        "/../../../../../../etc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/etc/passwd",
        "/proc/self/environ",
        "/dumps/../secret.heap",
        "/dumps/",
        "/dumps/one.pb.gz",
        "/data/",
        "/%00",
        "/index.html",
        "/data?new=2",
        "/data?new=1&base=77",
        "/snapshot?id=1",
        "/trend?new=1",
        "/source?new=1&file=/etc/hostname",
        "/source?new=1&file=../secret.heap",
        "/source?new=1&file=%2e%2e%2fsecret.heap",
        "/source?new=1&function=nothing",
        "/source?new=1&function=main&file=/etc/passwd",
    ] {
        let answer = served.get(path);
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert!(!answer.body.contains("root:") && !answer.body.contains("secret\n"));
    }
    for path in ["/data", "/data?new=", "/data?new=../1", "/data?new=-1", "/source?new=1", "/dumps?seen=x", "/snapshot"]
    {
        assert_eq!(served.get(path).status, 400, "{path}");
    }
    // What a profile names outside of the source directories is named, and not shown.
    for file in ["/etc/passwd", "../../../../../../etc/passwd"] {
        let source = served.json(&format!("/source?new=1&file={file}"));
        assert!(source["functions"][0]["missing"].as_str().unwrap().contains("is not here"), "{source}");
        assert!(!source.to_string().contains("root:"), "{source}");
    }
    let own = ("Origin", format!("http://{}", served.address));
    let bearer = format!("Bearer {}", served.token);
    let headers = [("Host", served.address.as_str()), (own.0, own.1.as_str()), ("Authorization", &bearer)];
    for (method, path, status) in [
        ("POST", "/data?new=1", 405),
        ("DELETE", "/", 405),
        ("PUT", "/dumps", 405),
        ("POST", "/take?of=1", 400),
        ("POST", "/take", 400),
    ] {
        assert_eq!(served.ask(method, path, &headers).status, status, "{method} {path}");
    }
    assert_eq!(served.get("/take?of=1").status, 405);
    holds("W3", "", "22 paths that lead out: 404 each");
}

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

/// A service whose leak grew from one dump of the process to the next.
fn two_dumps(scratch: &Scratch) -> [String; 2] {
    [(0u32, 20), (1, 60)].map(|(number, leak)| {
        let mut builder = Builder::new();
        builder.mapping("/opt/app/service", 0x40_0000, "0a0b0c0d");
        builder.profile.time_nanos += i64::from(number) * 60_000_000_000;
        let main = builder.location(0x40_1000, &[Frame("main", "src/main.c", 3)]);
        for (name, address, line, samples) in [("remember", 0x40_2000, 5, leak), ("insert", 0x40_3000, 9, 30)] {
            let leaf = builder.location(address, &[Frame(name, "src/main.c", line)]);
            builder.born(&[leaf, main], 2048, 10, Some(1));
            builder.born(&[leaf, main], 2048, samples - 10, Some(i64::from(number) + 1));
        }
        scratch.file(&format!("heapsift.1.{number}.m{number}.heap.pb.gz"), &builder.gzip())
    })
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

#[test]
fn many_at_once_get_what_one_gets() {
    let scratch = Scratch::new();
    let files = two_dumps(&scratch);
    let served = Served::new(&[&files[0], &files[1]]);
    let paths = ["/data?new=1", "/data?new=2", "/data?new=2&base=1", "/source?new=2&base=1&function=main", "/dumps"];
    // Once the list has been looked at, it stays as it is.
    served.list(|entries, _| entries.iter().all(|entry| entry["total"].is_u64()));
    let alone: Vec<String> = paths.iter().map(|path| served.get(path).body).collect();
    std::thread::scope(|scope| {
        for client in 0..1000 {
            let (served, path, wanted) = (&served, paths[client % paths.len()], &alone[client % paths.len()]);
            scope.spawn(move || {
                let answer = served.get(path);
                assert!(answer.status == 200 && answer.body == *wanted, "{path}");
            });
        }
    });
    assert!(served.peak() < 256 << 10, "{} KiB", served.peak());
}

#[test]
fn those_who_dawdle_or_babble_keep_nobody_waiting_for_long() {
    let (_scratch, file) = scene();
    let mut served = Served::new(&[&file]);
    let host = &served.address;
    // More than there are places, some silent, some in the middle of a head.
    let slow: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = served.connect();
            let part = ["", "GET / HT", "GET / HTTP/1.1\r\nHost: "][number % 3];
            stream.write_all(part.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(served.get("/dumps").status, 200, "they are dropped after a while");
    drop(slow);
    let bearer = format!("Authorization: Bearer {}", served.token);
    let long = "x".repeat(100_000);
    let many: String = (0..2000).map(|number| format!("X-{number}: y\r\n")).collect();
    for (what, request, statuses) in [
        ("a long head", format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {long}\r\n\r\n"), &[431][..]),
        ("a long path", format!("GET /{long} HTTP/1.1\r\nHost: {host}\r\n\r\n"), &[414, 431]),
        ("many headers", format!("GET / HTTP/1.1\r\nHost: {host}\r\n{many}\r\n"), &[431]),
        ("no HTTP", "\x16\x03\x01 hello\r\n\r\n".to_owned(), &[400]),
        (
            "a body that never comes",
            format!(
                "POST /take?of=1 HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{bearer}\r\nContent-Length: 1000000000\r\n\r\n"
            ),
            &[400],
        ),
        (
            "broken chunks",
            format!(
                "POST /take?of=1 HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{bearer}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
            ),
            &[400],
        ),
    ] {
        let mut stream = served.connect();
        // It may hang up before it has heard all of it.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = [0; 12];
        match stream.read_exact(&mut answer) {
            Ok(()) => {
                let status = std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap();
                assert!(statuses.contains(&status), "{what}: {status}");
            }
            // The connection was reset while it was still being written to: there is no answer to be had.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}: {error}"),
        }
    }
    // A body that is sent after all is not swallowed for ever.
    let mut stream = served.connect();
    let head = format!("POST /take?of=1 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000000\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let block = vec![b'x'; 1 << 20];
    let sent = (0..1000).take_while(|_| stream.write_all(&block).is_ok()).count();
    assert!(sent < 1000, "all of a gigabyte was taken");
    assert_eq!(served.get("/dumps").status, 200);
    assert!(served.child.try_wait().unwrap().is_none());
    assert!(served.peak() < 256 << 10, "{} KiB", served.peak());
}

#[test]
fn the_page_is_driven_in_a_browser() {
    let scratch = Scratch::new();
    let directory = scratch.join("dumps");
    fs::create_dir(&directory).unwrap();
    let dumps = Scratch::new();
    let files = two_dumps(&dumps);
    for file in &files {
        fs::copy(file, std::path::Path::new(&directory).join(std::path::Path::new(file).file_name().unwrap())).unwrap();
    }
    scratch.file("dumps/broken.heap.pb.gz", b"this is no dump");
    fs::create_dir(scratch.join("src")).unwrap();
    scratch.file("src/main.c", (1..=40).map(|line| format!("\tline({line}); // <i>\n")).collect::<String>().as_bytes());
    let served = Served::new(&[&directory, "--source-path", scratch.path().to_str().unwrap()]);
    // A dump that is written while the page is open: once there is a picture of an earlier step.
    let picture = picture("served-source");
    let _ = fs::remove_file(&picture);
    let later = scratch.file("later", &fs::read(&files[1]).unwrap());
    let target = format!("{directory}/heapsift.1.2.m2.heap.pb.gz");
    let is_over = AtomicBool::new(false);
    let id = |name: &str| format!("list.entries.find(each => each.name.includes('{name}'))");
    let shows = |what: &str| format!("document.querySelector('#view-{what}').textContent");
    let steps = json!([
        {"say": "load", "until": "document.documentElement.dataset.ready && data.rows", "run": "[data.title, location.search, document.cookie, $('state').textContent]", "shot": "served"},
        {"say": "search", "run": "(() => { const s = $('search'); s.value = '^rem'; s.dispatchEvent(new Event('input')); return $('matched').textContent; })()"},
        {"say": "zoom", "click": at("remember"), "run": "flame.focus > 0 && document.querySelector('#detail button').textContent"},
        {"say": "list", "until": format!("show('dumps'), {}?.reason", id("broken")), "run": shows("dumps"), "shot": "served-list"},
        {"say": "base", "until": format!("choose({{ new: {}.id, base: {}.id }})", id(".1.m1"), id(".0.m0")), "run": format!("show('diff'), {}", shows("diff")), "shot": "served-diff"},
        {"say": "zoom stays", "run": "data.names[flame.trees[0].names[flame.focus]]"},
        {"say": "both sides", "run": "show('flame'), $('mode').click(), [flame.compares, location.search, data.names[flame.trees[0].names[flame.focus]]]", "shot": "served-compare"},
        {"say": "select", "run": "$('pick-type').value = 'alloc_space', $('pick-type').dispatchEvent(new Event('change'))"},
        {"say": "selected", "until": "data.kind === 'alloc_space'", "run": "[data.kind, location.search]"},
        {"say": "go back", "run": "history.back()"},
        {"say": "back", "until": "data.kind === 'inuse_space'", "run": "[data.kind, data.diff !== null]"},
        {"say": "source", "until": format!("openSource({{ function: 'remember' }}).then(() => {}.includes('line(5)'))", shows("source")), "run": "[document.querySelectorAll('#view-source .line').length, document.querySelectorAll('#view-source i').length]", "shot": "served-source"},
        {"say": "open file", "run": "document.querySelector('#view-source .source button').click()"},
        {"say": "file", "until": format!("{}.includes('insert')", shows("source")), "run": "document.querySelectorAll('#view-source h2').length"},
        {"say": "new dump", "until": id(".2.m2"), "run": "list.entries.length"},
        {"say": "live", "until": format!("live.on || follow(true), picked.new === {}.id", id(".2.m2")), "run": "$('live').getAttribute('aria-pressed')"},
        {"say": "trend", "until": format!("show('trend'), {}.includes('3 dumps')", shows("trend")), "run": "document.querySelectorAll('#view-trend svg').length", "shot": "served-trend"},
        // Noted at once: following the process says something else in its turn.
        {"say": "failure", "until": format!("choose({{ new: {}.id }}).then(done => (window.told = $('state').textContent, !done && told !== ''))", id("broken")), "run": "told"},
        {"say": "dark", "dark": true, "run": "show('source'), flame.page.isDark()", "shot": "served-dark"},
        {"say": "phone", "size": [390, 780, true], "run": "views.map(([id]) => (show(id), document.documentElement.scrollWidth <= 390))", "shot": "served-phone-about"},
        {"say": "phone's list", "run": "show('dumps'), document.documentElement.scrollWidth <= 390", "shot": "served-phone-list"},
        {"say": "phone's graph", "run": "show('flame'), document.documentElement.scrollWidth <= 390", "shot": "served-phone"},
        {"say": "phone's source", "run": "show('source'), document.documentElement.scrollWidth <= 390", "shot": "served-phone-source"},
    ]);
    let own = format!("http://{}", served.address);
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !picture.exists() && !is_over.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            fs::rename(later, target).unwrap();
        });
        let got = drive(&format!("{own}/?token={}", served.token), Some(&own), &steps);
        is_over.store(true, Relaxed);
        got
    });
    let Some(got) = got else { return };
    let of = |say: &str| &got[steps.as_array().unwrap().iter().position(|step| step["say"] == say).unwrap()];
    let text = |say: &str| of(say).as_str().map_or_else(|| of(say).to_string(), str::to_owned);
    // The token is neither in the address nor where a script can read it.
    let loaded = of("load");
    assert_eq!((&loaded[0], &loaded[2], &loaded[3]), (&json!("service: inuse_space"), &json!(""), &json!("")));
    assert!(loaded[1].as_str().unwrap().starts_with("?new=") && !text("load").contains("token"), "{loaded}");
    assert!(text("search").contains("in 1 frames"), "{}", text("search"));
    assert_eq!(of("zoom"), "Source");
    assert!(text("list").contains("broken.heap.pb.gz") && text("list").contains("not a profile"), "{}", text("list"));
    assert!(text("base").contains("Compared by survivors") && text("base").contains("remember"), "{}", text("base"));
    assert!(
        of("both sides")[0] == true
            && of("both sides")[1].as_str().unwrap().contains("base=")
            && of("both sides")[2] == "remember",
        "{}",
        text("both sides")
    );
    assert_eq!(of("zoom stays"), "remember");
    assert!(of("selected")[0] == "alloc_space" && of("selected")[1].as_str().unwrap().contains("type=alloc_space"));
    assert_eq!(*of("back"), json!(["inuse_space", true]));
    assert_eq!(*of("source"), json!([11, 0]));
    assert_eq!(*of("file"), json!(3));
    assert_eq!((of("new dump"), of("live")), (&json!(4), &json!("true")));
    assert_eq!(*of("trend"), json!(3));
    assert!(text("failure").contains("broken.heap.pb.gz: not a profile"), "{}", text("failure"));
    assert!(of("phone").as_array().unwrap().iter().all(|fits| fits == true), "{}", text("phone"));
    for check in ["dark", "phone's list", "phone's graph", "phone's source"] {
        assert_eq!(*of(check), json!(true), "{check}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let scratch = Scratch::new();
    let mut builder = Builder::new();
    let names = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\u{202e}\u{2028}'\"`${alert(1)}",
        "javascript:alert(1)",
        "&function=main#x%00",
    ];
    let stack: Vec<u64> = names
        .iter()
        .zip(0x40_0000u64..)
        .map(|(name, address)| builder.location(address, &[Frame(name, "src/<img src=x onerror=alert(1)>.c", 1)]))
        .collect();
    builder.mapping("/opt/<script>alert(1)</script>", 0x40_0000, "<b>");
    builder.sampled(&stack, 4096, 50);
    let dumps = scratch.join("<img src=x onerror=alert(2)>");
    fs::create_dir(&dumps).unwrap();
    let hostile = |name: &str, bytes: &[u8]| fs::write(std::path::Path::new(&dumps).join(name), bytes).unwrap();
    hostile("<script>alert(3)<script>\u{202e}.pb.gz", &builder.gzip());
    hostile("<img src=x onerror=alert(4)>.pb.gz", b"<img src=x onerror=alert(5)>");
    fs::create_dir(scratch.join("src")).unwrap();
    scratch.file("src/<img src=x onerror=alert(1)>.c", b"</code><img src=x onerror=alert(6)>\n");
    let served = Served::new(&[&dumps, "--source-path", scratch.path().to_str().unwrap()]);
    let shown = format!(
        "openSource({{ function: {} }}).then(() => document.querySelector('#view-source').textContent.includes('</code><img'))",
        json!(names[0])
    );
    // By names as they are shown.
    let every = "(async () => { const found = []; for (const name of data.names.slice(1)) { \
        await openSource({ function: name }); found.push(sources.found?.length ?? sources.failure); } return found; })()";
    let steps = json!([
        {"say": "load", "until": "document.documentElement.dataset.ready && data.rows", "run": "data.names.join('|')"},
        {"say": "all views", "until": "list.entries.every(each => each.total !== null || each.reason !== null)", "run": "views.forEach(([id]) => show(id)), document.querySelectorAll('img, script:not([nonce]):not([type])').length"},
        {"say": "compare", "until": "choose({ base: picked.new })", "run": "views.forEach(([id]) => show(id)), document.querySelectorAll('img').length"},
        {"say": "source", "until": shown, "run": "document.querySelectorAll('img').length", "shot": "served-hostile-source"},
        {"say": "every name", "run": every},
        {"say": "list", "run": "show('dumps'), document.querySelector('#view-dumps').textContent.includes('<img src=x onerror=alert(4)>')", "shot": "served-hostile"},
        {"say": "title", "run": "document.title"},
    ]);
    let own = format!("http://{}", served.address);
    // No request elsewhere, no dialog, no complaint about the policy.
    let Some(got) = drive(&format!("{own}/?token={}", served.token), Some(&own), &steps) else { return };
    assert!(got[0].as_str().unwrap().contains("<img src=x onerror="), "{}", got[0]);
    assert_eq!((&got[1], &got[2], &got[3], &got[5]), (&json!(0), &json!(0), &json!(0), &json!(true)));
    assert_eq!(got[4], json!([1, 1, 1, 1, 1]));
    assert_eq!(got[6], "script>: inuse_space", "the last part of the binary's path");
}
