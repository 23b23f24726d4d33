//! Files by HTTP: one GET, for `/debug/pprof/heap` of a running process and for debug files.
//!
//! Nothing is fetched that the user did not name. Of `https` addresses the system's certificate authorities decide, or those
//! in the file `$SSL_CERT_FILE`. The body is read by the caller, who limits it.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use ureq::tls::{RootCerts, TlsConfig};

/// How long a server may take to accept, and to take a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to begin its answer, and to go on with it, beside the seconds that the address asks it to measure.
const ANSWER: Duration = Duration::from_secs(60);
/// How long all of an answer's body may take: a large profile over a slow line comes in that time, and one that comes in
/// drops doesn't hold up for ever whoever waits for it.
const BODY: Duration = Duration::from_secs(15 * 60);
/// What is asked for where the address names nothing.
const DEFAULT_PATH: &str = "/debug/pprof/heap";

/// Whether a word is an address rather than a path.
pub fn is_url(word: &str) -> bool {
    word.starts_with("http://") || word.starts_with("https://")
}

/// What an address has before its host: a name and a password, up to the `@`.
fn user(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://").filter(|_| is_url(url))?;
    let host = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    host.rfind('@').map(|at| &host[..=at])
}

/// An address as it may be told to others: a password is for the server only. Any other word is as it is.
pub fn shown(word: &str) -> String {
    user(word).map_or_else(|| word.to_owned(), |user| word.replacen(user, "", 1))
}

/// The address with a path, and how many seconds it asks the server to measure.
fn complete(url: &str) -> Result<(String, u64), String> {
    let scheme = ["http://", "https://"].into_iter().find(|scheme| url.starts_with(scheme));
    let Some((scheme, rest)) = scheme.map(|scheme| url.split_at(scheme.len())) else {
        return Err("an address begins with http:// or https://".to_owned());
    };
    if rest.is_empty() || rest.starts_with('/') {
        return Err("there is no host in this address".to_owned());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let path = match path {
        "" | "/" => DEFAULT_PATH.to_owned(),
        path if path.starts_with('?') => format!("{DEFAULT_PATH}{path}"),
        path => path.to_owned(),
    };
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let seconds = query.split('&').find_map(|pair| pair.strip_prefix("seconds=")?.parse().ok());
    Ok((format!("{scheme}{host}{path}"), seconds.unwrap_or(0)))
}

/// Whether an address is one that can be asked.
///
/// # Errors
/// One line: what is wrong with it.
pub fn check(url: &str) -> Result<(), String> {
    complete(url).map(drop)
}

/// Why there is nothing to read, in one line.
#[derive(Debug)]
pub struct Refusal {
    /// Whether the server is there and answered.
    pub answered: bool,
    reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Asks for the body of an address.
///
/// # Errors
/// One line: the address is unusable, the server is not there or answers something else than success.
pub fn get(url: &str) -> Result<impl Read + use<>, String> {
    let (url, seconds) = complete(url)?;
    ask(&url, ANSWER + Duration::from_secs(seconds.min(86_400)), BODY).map_err(|refusal| refusal.reason)
}

/// Asks for a file that a server may have to look for, and that must come within this time.
///
/// # Errors
/// The address is unusable, the server is not there or answers something else than success.
pub fn get_file(url: &str, patience: Duration) -> Result<impl Read + use<>, Refusal> {
    let (url, _) = complete(url).map_err(|reason| Refusal { answered: false, reason })?;
    ask(&url, ANSWER, patience)
}

/// `answer` is for the head, and between any two parts of the body; `body` for all of that.
fn ask(url: &str, answer: Duration, body: Duration) -> Result<impl Read + use<>, Refusal> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .proxy(None)
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .max_redirects(3)
        .timeout_connect(Some(PATIENCE))
        .timeout_send_request(Some(PATIENCE))
        .timeout_recv_response(Some(answer))
        .timeout_per_read(Some(answer))
        .timeout_recv_body(Some(body))
        .user_agent(concat!("heapsift/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .build()
        .into();
    let unreachable = |error| {
        let reason = format!("cannot fetch: {error}");
        // Some tell the address.
        let reason = user(url).map_or_else(|| reason.clone(), |user| reason.replace(user, ""));
        Refusal { answered: false, reason }
    };
    let mut response = agent.get(url).call().map_err(unreachable)?;
    let status = response.status();
    if !status.is_success() {
        // Servers of profiles say in the body what is wrong.
        let mut reason = Vec::new();
        let _ = response.body_mut().as_reader().take(200).read_to_end(&mut reason);
        let reason = String::from_utf8_lossy(&reason);
        let line = reason.lines().next().unwrap_or_default();
        let reason = format!("the server answers {status}: {line}").trim_end_matches([':', ' ']).to_owned();
        return Err(Refusal { answered: true, reason });
    }
    // The reader's own limit is the caller's concern.
    Ok(response.into_body().into_with_config().limit(u64::MAX).reader())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    #[test]
    fn addresses_are_completed() {
        let path = |url| complete(url).unwrap();
        assert_eq!(path("http://h:1"), ("http://h:1/debug/pprof/heap".to_owned(), 0));
        assert_eq!(path("http://h:1/"), ("http://h:1/debug/pprof/heap".to_owned(), 0));
        assert_eq!(path("http://h:1?seconds=5"), ("http://h:1/debug/pprof/heap?seconds=5".to_owned(), 5));
        assert_eq!(path("http://h/x?a=b&seconds=7").1, 7);
        assert_eq!(path("https://h/x?seconds=7"), ("https://h/x?seconds=7".to_owned(), 7));
        assert!(complete("ftp://h/").is_err());
        assert!(complete("http:///x").is_err());
    }
    #[test]
    fn passwords_are_not_told() {
        for (url, told) in [
            ("http://x:secret@h:1/a@b?c", "http://h:1/a@b?c"),
            ("https://s@cret@h?x", "https://h?x"),
            ("http://h/a@b", "http://h/a@b"),
            ("/a://b@c", "/a://b@c"),
        ] {
            assert_eq!(shown(url), told);
        }
    }

    /// Asks a server that goes on in this way after the head; how long it took to be given up.
    fn given_up(answer: Duration, body: Duration, go_on: fn(TcpStream)) -> Duration {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            let _ = stream.read(&mut [0; 1024]);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc").unwrap();
            go_on(stream);
        });
        let started = Instant::now();
        let mut body = ask(&url, answer, body).unwrap();
        assert!(body.read_to_end(&mut Vec::new()).is_err());
        started.elapsed()
    }

    #[test]
    fn a_body_is_not_waited_for_for_ever() {
        const LONG: Duration = Duration::from_secs(100);
        let stalled = given_up(Duration::from_millis(300), LONG, |_stream| std::thread::sleep(LONG));
        assert!(stalled < LONG / 2, "{stalled:?}");
        let dripping = given_up(LONG, Duration::from_millis(500), |mut stream| {
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert!(dripping < LONG / 2, "{dripping:?}");
    }
}
