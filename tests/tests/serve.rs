//! `serve` with processes that run: profiles of this moment, by the control socket and by an agent's address, and the page
//! that follows one.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use heapsift_tests::artifacts::{Scratch, repository, target_directory};
use heapsift_tests::dump::Column;
use heapsift_tests::http::{Answer, exchange, get_as};
use heapsift_tests::{Dump, Program, Server, command, tools};
use serde_json::{Value, json};

/// A process that holds 8 MiB and waits.
fn staying(runtime: &Path) -> Server {
    let mut server = Program::new(tools::compile("c/steps.c", &[]))
        .args(["small", "8192", "stay"])
        .env("XDG_RUNTIME_DIR", runtime)
        .under("prof:true,prof_sample:16KiB,prof_control:true")
        .serve();
    let log = server.log_path();
    server.wait_until(|| fs::read_to_string(&log).unwrap_or_default().contains("stay"));
    server
}

/// Starts a server of the command's; what it is, and what follows `http://` in the line by which it says where.
fn serving(words: &[&str]) -> (Server, String) {
    let mut server = Program::new(command()).args(words).serve();
    let started = Instant::now();
    loop {
        if let Some((line, _)) = server.log().split("http://").nth(1).and_then(|rest| rest.split_once('\n')) {
            return (server, line.to_owned());
        }
        server.expect_running();
        assert!(started.elapsed() < Duration::from_secs(30), "it doesn't say where it is");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `serve` over these words, asked as its page asks.
struct Page {
    _server: Server,
    address: String,
    token: String,
}

impl Page {
    fn of(words: &[&str]) -> Self {
        let (server, line) = serving(&[&["serve"], words].concat());
        let (address, token) = line.split_once("/?token=").expect("an address with a token");
        Self { _server: server, address: address.to_owned(), token: token.to_owned() }
    }

    fn get(&self, path: &str) -> Answer {
        get_as(&self.address, path, &self.address, &format!("Authorization: Bearer {}\r\n", self.token))
    }

    #[track_caller]
    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Takes a profile.
    fn take(&self, of: &Value) -> Answer {
        self.take_kind(of, "")
    }

    fn take_kind(&self, of: &Value, kind: &str) -> Answer {
        let Self { address, token, .. } = self;
        exchange(
            address,
            &format!(
                "POST /take?of={of}&kind={kind} HTTP/1.1\r\nHost: {address}\r\nOrigin: http://{address}\r\n\
                 Authorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
        )
    }
}

#[test]
fn a_running_process_is_looked_at_again_and_again() {
    let scratch = Scratch::new("serve");
    let server = staying(scratch.path());
    let pid = server.pid().to_string();
    let page = Page::of(&[&pid]);
    let list = page.json("/dumps");
    let [live] = &list["entries"].as_array().expect("a list")[..] else { panic!("{list}") };
    assert!(live["live"][0] == "heap" && live["name"] == format!("process {pid} steps"), "{live}");
    assert_eq!(page.get(&format!("/data?new={}", live["id"])).status, 400, "a profile must be taken first");
    let mut taken = Vec::new();
    for _ in 0..3 {
        let id = page.take(&live["id"]).json()["id"].clone();
        let data = page.json(&format!("/data?new={id}"));
        // Each block of 1 KiB is in a sample with a probability of 6 %.
        assert!(data["total"].as_i64().expect("a sum") > 4 << 20, "{}", data["summary"]);
        assert!(data["names"].as_array().expect("names").contains(&json!("allocate")), "{}", data["names"]);
        taken.push(id);
    }
    let both = page.json(&format!("/data?new={}&base={}", taken[2], taken[0]));
    assert_eq!(both["diff"]["survivors"], true, "{}", both["diff"]);
    let trend = page.json(&format!("/trend?new={}", taken[2]));
    assert_eq!(trend["x"].as_array().expect("points").len(), 3);
    // One that is to be kept has names in it.
    let saved = page.get(&format!("/snapshot?id={}", taken[1]));
    assert_eq!(saved.headers["content-type"], "application/octet-stream");
    let path = scratch.join("saved.pb.gz");
    fs::write(&path, &saved.body).expect("a scratch file");
    assert!(Dump::read(&path).total(Column::InuseSpace) > 4 << 20);
    let top = Program::new(command()).args(["top", "--symbolize", "none"]).arg(&path).run().expect_success().text();
    assert!(top.contains("allocate"), "{top}");
    // Resident memory, of what it is made: the parts add up to it.
    let answer = page.take_kind(&live["id"], "rss");
    let memory = page.json(&format!("/data?new={}", answer.json()["id"]));
    let parts = memory["waterfall"].as_array().expect("parts");
    let sum: i64 = parts.iter().map(|part| part["bytes"].as_i64().expect("bytes")).sum();
    assert!(parts[0]["name"] == "in use" && json!(sum) == memory["total"] && sum > 8 << 20, "{parts:?}");
    assert_eq!(page.take_kind(&live["id"], "anything").status, 400);
    // What was taken stays when the process is gone.
    drop(server);
    let refused = page.take(&live["id"]);
    assert_eq!((refused.status, refused.text().lines().count()), (502, 1), "{}", refused.text());
    assert_eq!(page.json(&format!("/data?new={}", taken[2]))["total"], both["total"]);
    assert_eq!(page.json("/dumps")["entries"].as_array().expect("a list").len(), 5);
}

#[test]
fn a_socket_and_an_address_are_sources_like_a_process() {
    let scratch = Scratch::new("serve-address");
    let server = staying(scratch.path());
    let pid = server.pid().to_string();
    let (_agent, line) = serving(&["agent", "--listen", "127.0.0.1:0", "--pid", &pid]);
    let address = format!("http://{}/debug/pprof/heap", line.trim_end_matches('/'));
    let socket = scratch.path().join(format!("heapsift/{pid}.sock"));
    let page = Page::of(&[&address, socket.to_str().expect("a path")]);
    let list = page.json("/dumps");
    for live in list["entries"].as_array().expect("a list") {
        let answer = page.take(&live["id"]);
        assert_eq!(answer.status, 200, "{live}: {}", answer.text());
        let data = page.json(&format!("/data?new={}", answer.json()["id"]));
        assert!(data["names"].as_array().expect("names").contains(&json!("allocate")), "{live}: {}", data["names"]);
    }
    // No more are kept than there is room for.
    let page = Page::of(&[socket.to_str().expect("a path"), "--symbolize", "none"]);
    for _ in 0..70 {
        assert_eq!(page.take(&json!(1)).status, 200);
    }
    assert_eq!(page.json("/dumps")["entries"].as_array().expect("a list").len(), 1 + 64);
}

#[test]
fn the_page_follows_a_process() {
    let (Some(node), Some(chromium)) = (tools::need("node"), tools::need("chromium")) else { return };
    let scratch = Scratch::new("serve-live");
    let server = staying(scratch.path());
    let page = Page::of(&[&server.pid().to_string()]);
    let pictures = target_directory().join("tmp/pages");
    fs::create_dir_all(&pictures).expect("the target directory can be written");
    let steps = json!([
        {"say": "load", "until": "document.documentElement.dataset.ready && data.rows", "run": "[data.title, list.entries.length]"},
        {"say": "base", "until": "choose({ base: picked.new })", "run": "data.diff.survivors"},
        {"say": "live", "run": "live.seconds = 0.05, $('live').click(), [live.on, $('every').hidden]"},
        {"say": "follows", "until": "list.entries.length >= 6", "run": "[picked.new > picked.base, data.names.includes('allocate'), $('state').textContent]", "shot": "live"},
        {"say": "zoom", "until": "(flame.focus = [...flame.trees[0].names].indexOf(data.names.indexOf('allocate'))) > 0"},
        {"say": "zoom stays", "until": "list.entries.length >= 9", "run": "[data.names[flame.trees[0].names[flame.focus]], live.on]"},
        {"say": "stop", "run": "$('live').click(), live.on"},
    ]);
    let output = Program::new(node)
        .arg(repository().join("viewer/tests/page.mjs"))
        .arg(chromium)
        .arg(format!("http://{}/?token={}", page.address, page.token))
        .arg(&pictures)
        .arg(steps.to_string())
        .within(Duration::from_secs(120))
        .run()
        .expect_success();
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["complaints"], json!([]));
    let own = format!("http://{}/", page.address);
    let requests = told["requests"].as_array().expect("a list").iter().filter_map(Value::as_str);
    let elsewhere: Vec<&str> = requests.filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    let got: Vec<&Value> = told["results"].as_array().expect("results").iter().map(|step| &step["got"]).collect();
    assert_eq!(*got[0], json!(["steps: inuse_space", 2]));
    assert_eq!(*got[1], json!(true));
    assert_eq!(*got[2], json!([true, false]));
    assert_eq!(*got[3], json!([true, true, ""]));
    assert_eq!(*got[5], json!(["allocate", true]));
    assert_eq!(*got[6], json!(false));
}
