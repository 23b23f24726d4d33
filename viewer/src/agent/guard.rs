//! Who may ask: on the loopback interface, whoever calls the server by such a name; elsewhere, whoever knows the token. No page
//! of another site may, by whatever name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::{Agent, plain};
use crate::error::{Error, Result};

/// The rule.
#[derive(Debug)]
pub struct Guard {
    token: Option<String>,
}

impl Guard {
    /// # Errors
    /// The address can be reached from elsewhere, and there is no token, or a weak one.
    pub fn new(token: Option<String>, listen: SocketAddr) -> Result<Self> {
        acceptable(token.as_deref(), listen)?;
        Ok(Self { token })
    }

    fn refuses(&self, method: &Method, uri_host: Option<&str>, headers: &HeaderMap) -> Option<Response> {
        let forbidden = |text: &str| Some(plain(StatusCode::FORBIDDEN, text.to_owned()));
        if let Some(reason) = elsewhere(method, only_host(headers).unwrap_or_default(), headers) {
            return forbidden(&format!("{reason}\n"));
        }
        let Some(token) = &self.token else {
            // A page on the web may have its own name lead here; it can't change what the browser says.
            let is_local = only_host(headers).is_some_and(is_local) && uri_host.is_none_or(is_local);
            return if is_local { None } else { forbidden("the Host is none of localhost, 127.0.0.1, [::1]\n") };
        };
        if given(headers).is_some_and(|given| same(given.as_bytes(), token.as_bytes())) {
            return None;
        }
        let mut response =
            plain(StatusCode::UNAUTHORIZED, "this needs the token, as Bearer or as password\n".to_owned());
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"heapsift\""));
        Some(response)
    }
}

/// Whether one may listen there with this token.
///
/// # Errors
/// The address can be reached from elsewhere, and there is no token, or a weak one.
pub(crate) fn acceptable(token: Option<&str>, listen: SocketAddr) -> Result<()> {
    const BYTES_MIN: usize = 16;
    match token {
        None if !listen.ip().is_loopback() => Err(Error::Usage(format!(
            "{listen} can be reached from elsewhere, and a profile tells a stranger much: give a --token"
        ))),
        Some(token) if token.len() < BYTES_MIN => {
            Err(Error::Usage(format!("--token: at least {BYTES_MIN} characters, such as openssl rand -hex 16 makes")))
        }
        _ => Ok(()),
    }
}

/// The Host that a request names. With two of them, nobody knows which one was meant.
pub(crate) fn only_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    hosts.next().filter(|_| hosts.next().is_none()).and_then(|host| host.to_str().ok())
}

/// Why a request is another site's, if its browser says so. A link in another page may lead here.
pub(crate) fn elsewhere(method: &Method, host: &str, headers: &HeaderMap) -> Option<&'static str> {
    if let Some(origin) = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("?")) {
        let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        if !from.is_some_and(|from| from.eq_ignore_ascii_case(host)) {
            return Some("another site asks (Origin)");
        }
    }
    let site = headers.get("sec-fetch-site")?;
    let is_ours = site == "same-origin" || site == "none";
    let is_link = headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate") && is_safe(method);
    (!is_ours && !is_link).then_some("another site asks (Sec-Fetch-Site)")
}

/// Whether a method changes nothing.
pub(crate) fn is_safe(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// Whether a host, with or without a port, is this machine by a name that nobody else can give it.
pub(crate) fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    !host.contains('@')
        && (name.eq_ignore_ascii_case("localhost")
            || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()))
}

/// The token of a request: `Bearer TOKEN`, or the password of `Basic`, which is what clients make of
/// `http://x:TOKEN@host/`.
pub(crate) fn given(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
    decoded.split_once(':').map(|(_, password)| password.to_owned())
}

/// Compares in a time that doesn't tell where the difference is.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Lets a request through, or not; and has browsers treat the answer with care.
pub(super) async fn check(State(agent): State<Arc<Agent>>, request: Request, next: Next) -> Response {
    let refused =
        agent.guard.refuses(request.method(), request.uri().authority().map(Authority::as_str), request.headers());
    let mut response = match refused {
        Some(response) => response.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for host in ["localhost", "LOCALHOST:6060", "127.0.0.1:6060", "127.5.6.7", "[::1]:1", "[::1]"] {
            assert!(is_local(host), "{host}");
        }
        for host in
            ["evil", "evil:6060", "127.0.0.1.evil", "localhost.evil", "10.0.0.1", "x@localhost", "", "[::1", "0.0.0.0"]
        {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn other_sites() {
        let guard = Guard::new(None, "127.0.0.1:6060".parse().unwrap()).unwrap();
        let refused = |method: Method, given: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in [("host", "127.0.0.1:6060")].iter().chain(given) {
                headers.insert(*name, HeaderValue::from_str(value).unwrap());
            }
            guard.refuses(&method, None, &headers).is_some()
        };
        let (cross, link) = (("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"));
        // Programs say nothing of it; a person opens the page, or follows a link to it.
        for fine in [&[] as &[_], &[("sec-fetch-site", "none")], &[("origin", "http://127.0.0.1:6060")], &[cross, link]]
        {
            assert!(!refused(Method::GET, fine), "{fine:?}");
        }
        assert!(!refused(Method::POST, &[]));
        for foreign in [
            &[cross] as &[_],
            &[("sec-fetch-site", "same-site")],
            &[cross, ("sec-fetch-mode", "no-cors")],
            &[("origin", "http://evil.example")],
            &[("origin", "http://127.0.0.1:6061")],
            &[("origin", "null")],
        ] {
            assert!(refused(Method::GET, foreign), "{foreign:?}");
        }
        assert!(refused(Method::POST, &[cross, link]));
    }

    #[test]
    fn tokens() {
        let open: SocketAddr = "0.0.0.0:6060".parse().unwrap();
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let token = "0123456789abcdef".to_owned();
        assert!(Guard::new(None, open).is_err() && Guard::new(Some("short".to_owned()), local).is_err());
        assert!(Guard::new(None, local).is_ok());
        let guard = Guard::new(Some(token), open).unwrap();
        let refused = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            guard.refuses(&Method::GET, None, &headers).is_some()
        };
        assert!(refused(None) && refused(Some("Bearer 0123456789abcdeX")) && refused(Some("Bearer")));
        assert!(!refused(Some("Bearer 0123456789abcdef")));
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        assert!(!refused(Some(&basic("me:0123456789abcdef"))) && refused(Some(&basic("0123456789abcdef:me"))));
    }
}
