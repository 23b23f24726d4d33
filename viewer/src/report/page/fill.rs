//! The page's file: its pieces in their places.

use std::hash::Hasher;

use crate::escape;

const PAGE: &str = include_str!("../../html/page.html");
const STYLE: &str = include_str!("../../html/page.css");
const SCRIPT: &str = concat!(include_str!("../../html/flame.js"), include_str!("../../html/views.js"));
/// What the page has in addition where a server stands behind it.
const SERVED_STYLE: &str = include_str!("../../html/served.css");
const SERVED_SCRIPT: &str = concat!(include_str!("../../html/sources.js"), include_str!("../../html/served.js"));

/// The page with its data, which asks nobody for anything. The same data make the same bytes.
pub fn alone(title: &str, data: &str) -> String {
    // Only within its strings does JSON have these; there, an escape is the same text.
    let data = data.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029");
    let nonce = nonce(&data);
    fill(|name| match name {
        "NONCE" => nonce.clone(),
        "TITLE" => escape::xml(title),
        "STYLE" => STYLE.to_owned(),
        "DATA" => data.clone(),
        "SCRIPT" => SCRIPT.to_owned(),
        _ => String::new(),
    })
}

/// The page for a server, which it asks for data.
pub fn served(nonce: &str) -> String {
    fill(|name| match name {
        "NONCE" => nonce.to_owned(),
        "TITLE" => "heapsift".to_owned(),
        "STYLE" => [STYLE, SERVED_STYLE].concat(),
        "DATA" => "null".to_owned(),
        "SCRIPT" => [SCRIPT, SERVED_SCRIPT].concat(),
        _ => "; connect-src 'self'".to_owned(),
    })
}

/// Piece by piece, so that what is put in is never looked at for places again.
fn fill(piece: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = PAGE;
    while let Some((before, after)) = rest.split_once('@') {
        let (name, after) = after.split_once('@').unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(&piece(name));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A word that only this page's own script carries. It hangs on all of the data, so none of them can contain it.
fn nonce(data: &str) -> String {
    (0..2u8)
        .map(|round| {
            // With fixed keys: the same bytes for the same input.
            let mut hasher = std::hash::DefaultHasher::new();
            hasher.write_u8(round);
            hasher.write(data.as_bytes());
            format!("{:016x}", hasher.finish())
        })
        .collect()
}
