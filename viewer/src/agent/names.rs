//! Names for addresses that come alone: what `go tool pprof` asks for when a profile has none.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{RawQuery, Request};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use pprof_export::schema;

use super::profile::give_names;
use super::{Process, aside, plain};
use crate::error::Result;

/// Most bytes of a request's body: some 100 000 addresses.
const BODY_BYTES: usize = 2 << 20;
/// For all of it.
const BODY_TIME: Duration = Duration::from_secs(10);

/// Waits for a request's body before anything is done for it, within limits of length and time.
pub async fn whole(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_BYTES as u64) {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {BODY_BYTES} bytes\n"));
    }
    match tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_BYTES)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(_)) => plain(StatusCode::BAD_REQUEST, format!("the body is broken or longer than {BODY_BYTES} bytes\n")),
        Err(_) => plain(StatusCode::REQUEST_TIMEOUT, "the body doesn't come\n".to_owned()),
    }
}

/// Answers `0x1234+0x5678` by lines of an address and a name each. Without addresses it says that there are names to be had.
pub async fn answer(process: Arc<Process>, RawQuery(query): RawQuery, body: String) -> Response {
    let asked = if body.is_empty() { query.unwrap_or_default() } else { body };
    let done = aside(move || name_all(&process, &asked)).await;
    match done {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response(),
        Err(response) => response,
    }
}

fn name_all(process: &Process, asked: &str) -> Result<String> {
    let mut text = "num_symbols: 1\n".to_owned();
    let addresses: Vec<u64> = addresses(asked).collect();
    if addresses.is_empty() {
        return Ok(text);
    }
    let kept = process.modules.lock().ok().and_then(|kept| kept.clone());
    let mut profile = match kept {
        Some(modules) => modules,
        None => {
            let message = process.fetch("heap")?.into_message();
            process.remember(&message);
            schema::Profile { mapping: message.mapping, string_table: message.string_table, ..Default::default() }
        }
    };
    for (index, &address) in addresses.iter().enumerate() {
        let mapping = profile.mapping.iter().find(|m| (m.memory_start..m.memory_limit).contains(&address));
        let mapping_id = mapping.map_or(0, |mapping| mapping.id);
        let id = index as u64 + 1;
        profile.location.push(schema::Location { id, mapping_id, address, ..Default::default() });
    }
    give_names(process, &mut profile);
    for location in &profile.location {
        // The last line is the function that the address is in; the others are inlined into it.
        let function = location.line.last().map(|line| line.function_id);
        let function = function.and_then(|id| profile.function.iter().find(|function| function.id == id));
        let name = function.and_then(|function| profile.string_table.get(usize::try_from(function.name).ok()?));
        if let Some(name) = name {
            // A line is a line, whatever a binary calls its functions.
            let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let _ = writeln!(text, "{:#x}\t{name}", location.address);
        }
    }
    Ok(text)
}

fn addresses(asked: &str) -> impl Iterator<Item = u64> {
    let words = asked.split(['+', ' ', '\n']).filter_map(|word| word.trim().strip_prefix("0x"));
    words.filter_map(|digits| u64::from_str_radix(digits, 16).ok())
}

#[cfg(test)]
mod tests {
    #[test]
    fn addresses() {
        let all = |text| super::addresses(text).collect::<Vec<_>>();
        assert_eq!(all("0x10+0xff"), [0x10, 0xff]);
        assert_eq!(all("0xzz+12+0x1ffffffffffffffff+0x1\n"), [1]);
        assert!(all("").is_empty());
    }
}
