//! Who may see the page: whoever was told its token, and asks from the page itself or by opening its address.
//!
//! The token comes in the address once and is a cookie from then on, which no script can read and no other site's page
//! can have sent. A page of another site that has its own name lead here is known by the `Host` that its browser sends;
//! one that asks from where it is, by `Origin` and `Sec-Fetch-Site`.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Served;
use super::answer::Failure;
use super::query;
use crate::agent::guard::{elsewhere, given, is_local, is_safe, only_host, same};
use crate::error::{Error, Result};

/// The rule.
#[derive(Debug)]
pub struct Guard {
    token: String,
    /// The cookie's name: cookies don't know ports, so that several servers need several names.
    cookie: String,
    is_loopback: bool,
}

/// How the token came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Address,
    Other,
}

/// A token of 128 random bits.
///
/// # Errors
/// The system has none.
pub fn random_word() -> Result<String> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Error::io("read", source, error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Guard {
    /// The guard of a server at an address.
    pub fn new(token: String, address: SocketAddr) -> Self {
        Self { token, cookie: format!("heapsift-{}", address.port()), is_loopback: address.ip().is_loopback() }
    }

    fn admits(&self, request: &Request) -> core::result::Result<Way, &'static str> {
        let headers = request.headers();
        let host = only_host(headers).ok_or("there is not exactly one Host")?;
        let uri_host = request.uri().authority().map(Authority::as_str);
        if self.is_loopback && !(is_local(host) && uri_host.is_none_or(is_local)) {
            return Err("the Host is none of localhost, 127.0.0.1, [::1]");
        }
        if let Some(reason) = elsewhere(request.method(), host, headers) {
            return Err(reason);
        }
        if !is_safe(request.method()) && !headers.contains_key(header::ORIGIN) {
            return Err("there is no Origin");
        }
        self.knows(request.uri().query(), headers)
            .ok_or("the token is missing or wrong: open the address that was printed at the start")
    }

    fn knows(&self, query: Option<&str>, headers: &HeaderMap) -> Option<Way> {
        let is_token = |given: String| same(given.as_bytes(), self.token.as_bytes());
        if query::parameter(query, "token").is_some_and(is_token) {
            return Some(Way::Address);
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let ours = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut ours = ours.filter(|(name, _)| *name == self.cookie).filter_map(|(_, value)| query::decode(value));
        (ours.any(is_token) || given(headers).is_some_and(is_token)).then_some(Way::Other)
    }
}

/// Lets a request through, or not; and has browsers treat the answer with care.
pub async fn check(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let guard = &served.guard;
    let mut response = match guard.admits(&request) {
        Err(reason) => Failure::new(StatusCode::FORBIDDEN, reason).into_response(),
        Ok(way) => {
            let mut response = next.run(request).await;
            let cookie = format!("{}={}; HttpOnly; SameSite=Strict; Path=/", guard.cookie, query::encode(&guard.token));
            if way == Way::Address
                && let Ok(cookie) = HeaderValue::from_str(&cookie)
            {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
            response
        }
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // The page has one of its own.
    let strict = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(strict);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    const TOKEN: &str = "0123456789abcdef/+;";

    fn asked(method: &str, uri: &str, headers: &[(&str, &str)]) -> core::result::Result<Way, &'static str> {
        let guard = Guard::new(TOKEN.to_owned(), "127.0.0.1:6061".parse().unwrap());
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.admits(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn tokens_come_in_three_ways() {
        let host = ("host", "127.0.0.1:6061");
        let by_address = format!("/?token={}", query::encode(TOKEN));
        assert_eq!(asked("GET", &by_address, &[host]), Ok(Way::Address));
        let cookie = format!("a=b; heapsift-6061={}; c=d", query::encode(TOKEN));
        assert_eq!(asked("GET", "/", &[host, ("cookie", &cookie)]), Ok(Way::Other));
        assert_eq!(asked("GET", "/", &[host, ("authorization", &format!("Bearer {TOKEN}"))]), Ok(Way::Other));
        for (uri, name, value) in [
            ("/", "x", ""),
            ("/?token=", "x", ""),
            ("/?token=0123456789abcdef", "x", ""),
            ("/?tokens=0123456789abcdef%2F%2B%3B", "x", ""),
            ("/", "cookie", "heapsift-6062=0123456789abcdef%2F%2B%3B"),
            ("/", "cookie", "heapsift-6061=0123456789abcdeg%2F%2B%3B"),
            ("/", "authorization", "Bearer"),
        ] {
            assert!(asked("GET", uri, &[host, (name, value)]).unwrap_err().contains("token"), "{uri} {value}");
        }
    }

    #[test]
    fn other_sites_are_refused() {
        let uri = format!("/?token={}", query::encode(TOKEN));
        let host = ("host", "localhost:9000");
        let get = |headers: &[(&str, &str)]| asked("GET", &uri, headers);
        assert!(get(&[host]).is_ok() && get(&[host, ("origin", "http://localhost:9000")]).is_ok());
        for headers in [
            &[][..],
            &[("host", "evil.example:6061")],
            &[("host", "127.0.0.1.evil.example")],
            &[host, ("origin", "http://localhost:9001")],
            &[host, ("origin", "http://evil.example")],
            &[host, ("origin", "null")],
            &[host, ("origin", "file://")],
            &[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")],
            &[host, ("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
        ] {
            assert!(get(headers).is_err(), "{headers:?}");
        }
        // A link in another page, or a terminal in a browser.
        assert!(get(&[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]).is_ok());
        assert!(asked("GET", &format!("http://evil.example{uri}"), &[host]).is_err());
        // What changes something says where it comes from.
        assert!(asked("POST", &uri, &[host]).is_err());
        assert!(asked("POST", &uri, &[host, ("origin", "http://localhost:9000")]).is_ok());
        let by_link = [
            host,
            ("origin", "http://localhost:9000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert!(asked("POST", &uri, &by_link).is_err());
    }

    #[test]
    fn random_words_differ() {
        let (a, b) = (random_word().unwrap(), random_word().unwrap());
        assert!(a != b && a.len() == 32);
    }
}
