//! Those who may ask and those who may not, and those who ask for too much.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Headers, Served, two_dumps};
use crate::support::{Frame, Scratch, heapsift, holds, service};

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
