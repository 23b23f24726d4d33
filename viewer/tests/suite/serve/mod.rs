//! `serve`, asked as its page asks and as others do.

mod driven;
mod guarded;
mod shown;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Builder, Frame, Scratch};

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
