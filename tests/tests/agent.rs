//! The agent, asked by those who will ask it: `go tool pprof`, Prometheus, and scrapers that send what Parca sends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::dump::Column;
use heapsift_tests::http::{Answer, exchange, get, get_as};
use heapsift_tests::safety::holds;
use heapsift_tests::{Dump, Program, Server, command, redis, tools};

/// A redis-server under the allocator with a socket, profiled from here on.
fn profiled_redis(scratch: &Scratch) -> Option<(Server, PathBuf)> {
    let dress = |server: Program| server.env("XDG_RUNTIME_DIR", scratch.path()).under("prof_control:true");
    let (server, socket) = redis::serve(scratch.path(), dress)?;
    let pid = server.pid().to_string();
    Program::new(command()).args(["ctl", &pid, "enable", "--sample", "4KiB"]).run().expect_success();
    Some((server, socket))
}

fn agent(pids: &[u32], more: &[&str]) -> (Server, String) {
    let mut program = Program::new(command()).args(["agent", "--listen", "127.0.0.1:0"]).args(more);
    for pid in pids {
        program = program.arg("--pid").arg(pid.to_string());
    }
    let mut server = program.serve();
    let started = Instant::now();
    loop {
        // All of the line is there when its last slash is.
        if let Some((address, _)) = server.log().split("http://").nth(1).and_then(|rest| rest.split_once('/')) {
            return (server, address.to_owned());
        }
        server.expect_running();
        assert!(started.elapsed() < Duration::from_secs(30), "the agent doesn't say where it is");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn profile(scratch: &Scratch, answer: &Answer) -> Dump {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.headers["content-type"], "application/octet-stream");
    let path = scratch.join("fetched.pb.gz");
    fs::write(&path, &answer.body).expect("a scratch file");
    Dump::read(&path)
}

#[test]
fn pprof_and_scrapers_are_served() {
    let scratch = Scratch::new("agent");
    let Some((server, socket)) = profiled_redis(&scratch) else { return };
    if redis::load(&socket).is_none() {
        return;
    }
    let (agent, address) = agent(&[server.pid()], &[]);
    let heap = get(&address, "/debug/pprof/heap");
    assert!(profile(&scratch, &heap).total(Column::AllocSpace) > 4 << 20);
    assert_eq!(heap.headers["x-content-type-options"], "nosniff");
    // As Parca and Pyroscope ask, again and again.
    for _ in 0..3 {
        let scraped =
            get_as(&address, "/debug/pprof/allocs", &address, "User-Agent: conprof/0.1\r\nAccept-Encoding: gzip\r\n");
        profile(&scratch, &scraped);
    }
    // What was allocated is shown first, and the names are in the file.
    let fetched = scratch.join("fetched.pb.gz");
    let top = Program::new(command()).args(["top", "--symbolize", "none"]).arg(&fetched).run().expect_success().text();
    assert!(top.contains("Type: alloc_space") && top.contains("zmalloc"), "{top}");
    // The difference of a quiet second is smaller than the whole.
    let difference = get(&address, "/debug/pprof/heap?seconds=1");
    assert!(profile(&scratch, &difference).total(Column::AllocSpace) < 1 << 20);
    let words = get(&address, "/debug/pprof/cmdline");
    assert!(words.text().contains("redis-server"), "{}", words.text());
    // Addresses alone, as pprof asks when a profile has no names.
    assert_eq!(get(&address, "/debug/pprof/symbol").text(), "num_symbols: 1\n");
    profile(&scratch, &get(&address, "/debug/pprof/heap?symbolize=none"));
    for kind in ["waste", "lifetime", "slack", "rss"] {
        profile(&scratch, &get(&address, &format!("/debug/pprof/{kind}")));
    }
    let raw = Program::new(command())
        .args(["convert", "--symbolize", "none", "--to", "raw"])
        .arg(scratch.join("fetched.pb.gz"));
    let raw = raw.run().expect_success().text();
    let locations = raw.split("Locations").nth(1).expect("locations");
    let asked: Vec<&str> = locations.split_whitespace().filter(|word| word.starts_with("0x")).take(40).collect();
    let body = asked.join("+");
    let request = format!(
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let posted = exchange(&address, &request).text();
    assert!(posted.starts_with("num_symbols: 1\n") && posted.contains("zmalloc"), "{posted}");
    assert_eq!(get(&address, &format!("/debug/pprof/symbol?{body}")).text(), posted);
    for (path, status) in [
        ("/debug/pprof/peak", 502),
        ("/debug/pprof/nothing", 404),
        ("/nothing", 404),
        ("/1/debug/pprof/heap", 404),
        ("/debug/pprof/heap?seconds=-1", 400),
        ("/debug/pprof/../../etc/passwd", 404),
        ("/debug/pprof/%2e%2e%2fheap", 404),
    ] {
        let answer = get(&address, path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
    }
    assert!(get(&address, "/").text().contains("/debug/pprof/heap"));
    if let Some(go) = tools::need("go") {
        for path in ["heap", "heap?symbolize=none"] {
            let shown = Program::new(&go)
                .args(["tool", "pprof", "-top", "-sample_index=alloc_space"])
                .arg(format!("http://{address}/debug/pprof/{path}"))
                .env("PPROF_TMPDIR", scratch.path())
                .env("HOME", scratch.path())
                // Nothing here may be found locally.
                .env("PPROF_BINARY_PATH", scratch.path())
                .within(Duration::from_secs(120))
                .run()
                .expect_success();
            let text = shown.text();
            assert!(text.contains("zmalloc") && text.contains("Type: alloc_space"), "{path}: {text}");
        }
    }
    drop(server);
    assert_eq!(get(&address, "/debug/pprof/heap").status, 502);
    drop(agent);
}

/// A process without profiling that waits and can be asked.
fn waiting(scratch: &Scratch) -> Server {
    let mut server = Program::new(tools::compile("c/steps.c", &[]))
        .args(["alloc", "1", "stay"])
        .env("XDG_RUNTIME_DIR", scratch.path())
        .under("prof_control:true")
        .serve();
    let log = server.log_path();
    server.wait_until(|| fs::read_to_string(&log).unwrap_or_default().contains("stay"));
    server
}

#[test]
fn the_agent_bears_those_who_dawdle_or_babble() {
    let scratch = Scratch::new("dawdlers");
    let server = waiting(&scratch);
    let (mut agent, address) = agent(&[server.pid()], &[]);
    let connect = || {
        let stream = TcpStream::connect(&address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        stream
    };
    // More than there are places: silent, in the middle of a head, in the middle of a body.
    let post = "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\n";
    let starts = ["".to_owned(), "GET /metr".to_owned(), format!("{post}Content-Length: 1000\r\n\r\n0x1")];
    let slow: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut stream = connect();
            stream.write_all(starts[number % starts.len()].as_bytes()).expect("room");
            stream
        })
        .collect();
    assert_eq!(get(&address, "/metrics").status, 200, "they are dropped after a while");
    drop(slow);
    let (long, many) = ("x".repeat(100_000), "X: y\r\n".repeat(2000));
    for (what, request, status) in [
        ("a long head", format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), 431),
        ("many headers", format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"), 431),
        ("no HTTP", "\x16\x03\x01 hello\r\n\r\n".to_owned(), 400),
        ("a gigabyte that never comes", format!("{post}Content-Length: 1000000000\r\n\r\n"), 413),
        ("broken chunks", format!("{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400),
        ("a body that doesn't go on", format!("{post}Content-Length: 100\r\n\r\n0x1"), 408),
    ] {
        let mut stream = connect();
        // It may hang up before it has heard all of it.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = [0; 12];
        match stream.read_exact(&mut answer) {
            Ok(()) => assert_eq!(&answer[9..], status.to_string().as_bytes(), "{what}"),
            // The connection was reset while it was still being written to: there is no answer to be had.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{what}: {error}"),
        }
    }
    // Bodies that are sent all the same are not taken for ever, whether their length was told or not.
    let block = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
    for head in ["Content-Length: 1000000000", "Transfer-Encoding: chunked"] {
        let mut stream = connect();
        stream.write_all(format!("{post}{head}\r\n\r\n").as_bytes()).expect("room");
        let sent = (0..1000).take_while(|_| stream.write_all(block.as_bytes()).is_ok()).count();
        assert!(sent < 1000, "all of a gigabyte was taken");
    }
    // All of those that ask at once are answered.
    std::thread::scope(|scope| {
        for _ in 0..1000 {
            scope.spawn(|| assert_eq!(get(&address, "/metrics").status, 200));
        }
    });
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).expect("it runs");
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
    assert!(peak.expect("the kernel tells it") < 256 << 10, "{peak:?} KiB");
    agent.expect_running();
    holds(
        "W4",
        &format!(
            "200 dawdlers, 1000 at once, broken and endless requests: others are served, {} MiB",
            peak.unwrap_or(0) >> 10
        ),
    );
}

#[test]
fn strangers_are_refused() {
    let scratch = Scratch::new("strangers");
    let (first, second) = (waiting(&scratch), waiting(&scratch));
    let (_agent, address) = agent(&[first.pid(), second.pid()], &[]);
    let port = address.rsplit(':').next().expect("a port");
    for (host, status) in [
        (address.clone(), 200),
        (format!("localhost:{port}"), 200),
        (format!("[::1]:{port}"), 200),
        (format!("evil.example:{port}"), 403),
        ("127.0.0.1.evil.example".to_owned(), 403),
        (String::new(), 403),
    ] {
        assert_eq!(get_as(&address, "/metrics", &host, "").status, status, "{host}");
    }
    let absolute = format!("GET http://evil.example/metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    assert_eq!(exchange(&address, &absolute).status, 403);
    let two = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert_eq!(exchange(&address, &two).status, 403);
    // Several processes: each by its number, the numbers of both in one text.
    assert_eq!(get(&address, "/debug/pprof/heap").status, 404);
    let off = get(&address, &format!("/{}/debug/pprof/heap", second.pid()));
    assert!(
        off.status == 502 && off.text().contains("profiling is off") && off.headers["x-go-pprof"] == "1",
        "{}",
        off.text()
    );
    let metrics = get(&address, "/metrics");
    parse(&metrics.text());
    for pid in [first.pid(), second.pid()] {
        assert!(metrics.text().contains(&format!("heapsift_allocated_bytes{{pid=\"{pid}\"}} ")), "{}", metrics.text());
        parse(&get(&address, &format!("/{pid}/metrics")).text());
    }
    let page = get(&address, "/").text();
    assert!(page.contains(&format!("/{}/debug/pprof/heap", first.pid())));
    // Without a token nothing that others can reach.
    let pid = first.pid().to_string();
    let refused = Program::new(command()).args(["agent", "--pid", &pid, "--listen", "0.0.0.0:0"]).run();
    assert!(refused.status == 2 && refused.complaints().contains("--token"), "{}", refused.complaints());
    let refused = Program::new(command()).args(["agent", "--pid", "4000000000"]).run();
    assert!(refused.status == 2 && refused.complaints().contains("no process"), "{}", refused.complaints());
    let (_guarded, address) = agent(&[first.pid()], &["--token", "0123456789abcdef"]);
    assert_eq!(get(&address, "/metrics").status, 401);
    let with = |line: &str| get_as(&address, "/metrics", "any.name", line).status;
    assert_eq!(with("Authorization: Bearer 0123456789abcdef\r\n"), 200);
    assert_eq!(with("Authorization: Bearer 0123456789abcdeg\r\n"), 401);
    holds("W1", "other hosts and absolute addresses: 403");
    holds("W2", "without the token, or with another: 401");
    holds("W5", "refused without a token; loopback otherwise");
}

#[test]
fn processes_that_hang_hide_no_others() {
    let scratch = Scratch::new("hanging");
    let (first, second) = (waiting(&scratch), waiting(&scratch));
    let pids = [first.pid(), second.pid()];
    let (_agent, address) = agent(&pids, &[]);
    let stop = |pid: u32| Program::new("kill").args(["-STOP", &pid.to_string()]).run().expect_success();
    let up = |text: &str| pids.map(|pid| text.contains(&format!("heapsift_up{{pid=\"{pid}\"}} 1\n")));
    assert_eq!(up(&get(&address, "/metrics").text()), [true, true]);
    stop(pids[1]);
    let started = Instant::now();
    for _ in 0..2 {
        let metrics = get(&address, "/metrics").text();
        parse(&metrics);
        assert_eq!(up(&metrics), [true, false], "{metrics}");
        assert!(metrics.contains(&format!("heapsift_up{{pid=\"{}\"}} 0\n", pids[1])), "{metrics}");
        assert!(metrics.contains(&format!("heapsift_allocated_bytes{{pid=\"{}\"}} ", pids[0])), "{metrics}");
    }
    let alone = get(&address, &format!("/{}/metrics", pids[1]));
    assert!(alone.status == 502 && alone.text().contains("no answer in time"), "{}", alone.text());
    // When none is left, there is nothing to be told but why.
    stop(pids[0]);
    let none = get(&address, "/metrics");
    assert!(none.status == 502 && none.text().contains("no answer in time"), "{}", none.text());
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn prometheus_scrapes_the_numbers() {
    let Some(prometheus) = tools::need("prometheus") else { return };
    let scratch = Scratch::new("prometheus");
    let Some((server, socket)) = profiled_redis(&scratch) else { return };
    if redis::load(&socket).is_none() {
        return;
    }
    let (_agent, address) = agent(&[server.pid()], &[]);
    let answer = get(&address, "/metrics");
    assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let families = parse(&answer.text());
    assert!(families["heapsift_samples"].iter().any(|(_, value)| *value > 100.0));
    let config = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: heapsift\n    static_configs:\n      - targets: ['{address}']\n"
    );
    fs::write(scratch.join("prometheus.yml"), config).expect("a scratch file");
    let port = free_port();
    let mut scraper = Program::new(prometheus)
        .arg(format!("--config.file={}", scratch.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", scratch.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .serve();
    let own = format!("127.0.0.1:{port}");
    let ask = |path: &str| TcpStream::connect(&own).is_ok().then(|| get(&own, path).text());
    scraper.wait_until(|| {
        ask("/api/v1/targets")
            .is_some_and(|text| text.contains("\"health\":\"up\"") || text.contains("\"health\":\"down\""))
    });
    let targets = ask("/api/v1/targets").expect("prometheus answers");
    assert!(targets.contains("\"health\":\"up\"") && targets.contains("\"lastError\":\"\""), "{targets}");
    scraper.wait_until(|| {
        ask("/api/v1/query?query=heapsift_allocated_bytes").is_some_and(|text| text.contains("\"instance\""))
    });
    let log = scraper.log();
    assert!(!log.contains("Append failed") && !log.contains("level=error"), "{log}");
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

type Samples = Vec<(String, f64)>;

/// Reads OpenMetrics text as strictly as its rules are, as far as gauges, counters and infos go.
#[track_caller]
fn parse(text: &str) -> BTreeMap<String, Samples> {
    let body = text.strip_suffix("# EOF\n").expect("the end is marked");
    let mut families: BTreeMap<String, Samples> = BTreeMap::new();
    let (mut name, mut kind, mut seen) = (String::new(), String::new(), Vec::new());
    for line in body.lines() {
        assert!(!line.is_empty() && line == line.trim(), "{line:?}");
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, of, value) =
                (words.next().expect("a keyword"), words.next().expect("a name"), words.next().expect("a value"));
            if of != name {
                assert!(!families.contains_key(of), "{of} comes twice");
                (name, kind) = (of.to_owned(), "unknown".to_owned());
                families.insert(name.clone(), Vec::new());
                seen.clear();
            }
            assert!(families[&name].is_empty(), "{line}: after samples");
            assert!(!seen.contains(&what.to_owned()), "{line}: twice");
            seen.push(what.to_owned());
            match what {
                "TYPE" => {
                    assert!(["gauge", "counter", "info"].contains(&value), "{line}");
                    kind = value.to_owned();
                }
                "UNIT" => assert!(of.ends_with(&format!("_{value}")), "{line}"),
                "HELP" => assert!(value.ends_with('.') && !value.contains(['\\', '"']), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (full, value) = line.rsplit_once(' ').expect("a value");
        let (metric, labels) = full.split_once('{').map_or((full, ""), |(metric, labels)| (metric, labels));
        let suffix = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        assert_eq!(metric, format!("{name}{suffix}"), "{line}");
        assert!(metric.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        if !labels.is_empty() {
            let labels = labels.strip_suffix('}').expect("a brace");
            for label in labels.split(',') {
                let (key, value) = label.split_once("=\"").expect("a label");
                assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && value.ends_with('"'), "{line}");
            }
        }
        let value: f64 = value.parse().expect("a number");
        assert!(value.is_finite() && value >= 0.0, "{line}");
        let samples = families.get_mut(&name).expect("its family");
        assert!(samples.iter().all(|(known, _)| known != full), "{full} comes twice");
        samples.push((full.to_owned(), value));
    }
    assert!(families.values().filter(|samples| samples.is_empty()).count() == 0, "a family without samples: {text}");
    assert!(families.len() > 20);
    families
}
