//! Profiles: fetched, named, subtracted.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::RawQuery;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pprof_export::reader::Limits;
use pprof_export::schema;

use super::{Process, aside, plain};
use crate::control::find;
use crate::error::Result;
use crate::formats::write::message;
use crate::input::{self, Input, Merge, Periods};
use crate::symbolize;

/// Longest time that a difference may take, in seconds.
const SECONDS_MAX: u64 = 3600;

/// What there is below `/debug/pprof/`, what the process calls it, and the column that is shown first.
pub const PROFILES: [(&str, &str, Option<&str>, &str); 7] = [
    ("heap", "heap", None, "what is in use, and all that was ever allocated"),
    ("allocs", "heap", Some("alloc_space"), "the same, by what was allocated"),
    ("peak", "peak", None, "what was in use when most was (prof_peak:true)"),
    ("waste", "waste", None, "what rounding to size classes wastes"),
    ("lifetime", "lifetime", None, "blocks that were freed, by how long they had lived"),
    ("slack", "slack", None, "free blocks in slabs that can't be given back, by the stacks whose blocks keep them"),
    ("rss", "rss", None, "resident memory: of what it is made"),
];

/// The value of a parameter.
pub fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Answers a request for a profile.
pub async fn answer(process: Arc<Process>, name: String, RawQuery(query): RawQuery) -> Response {
    if name == "cmdline" {
        return match std::fs::read(format!("/proc/{}/cmdline", process.pid)) {
            Ok(words) => {
                let words = words.strip_suffix(b"\0").unwrap_or(&words).to_vec();
                ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], words).into_response()
            }
            Err(_) => plain(StatusCode::BAD_GATEWAY, "the process is gone\n".to_owned()),
        };
    }
    let Some(&(_, kind, column, _)) = PROFILES.iter().find(|known| known.0 == name) else {
        return plain(StatusCode::NOT_FOUND, "there is no such profile; see /debug/pprof/\n".to_owned());
    };
    let query = query.as_deref();
    let seconds = match parameter(query, "seconds").map(str::parse::<u64>) {
        None => 0,
        Some(Ok(seconds)) if seconds <= SECONDS_MAX => seconds,
        Some(_) => return plain(StatusCode::BAD_REQUEST, format!("seconds: a number up to {SECONDS_MAX}\n")),
    };
    let with_names = parameter(query, "symbolize") != Some("none");
    let fetched = fetch(&process, kind).await;
    let earlier = match fetched {
        Ok(input) => input,
        Err(response) => return response,
    };
    let later = if seconds == 0 {
        None
    } else {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        match fetch(&process, kind).await {
            Ok(input) => Some(input),
            Err(response) => return response,
        }
    };
    let made = aside(move || {
        let mut profile = match later {
            None => earlier.into_message(),
            Some(later) => difference(earlier, later, seconds)?,
        };
        if with_names {
            give_names(&process, &mut profile);
        }
        process.remember(&profile);
        if let Some(column) = column {
            let index = profile.string_table.iter().position(|text| text == column);
            profile.default_sample_type = index.and_then(|index| index.try_into().ok()).unwrap_or(0);
        }
        Ok(pprof_export::encode_gzip(&profile))
    });
    match made.await {
        Ok(bytes) => {
            let disposition = format!("attachment; filename=\"{name}.pb.gz\"");
            let headers = [
                (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
                (header::CONTENT_DISPOSITION, disposition),
            ];
            (headers, bytes).into_response()
        }
        Err(response) => response,
    }
}

async fn fetch(process: &Arc<Process>, kind: &'static str) -> core::result::Result<Input, Response> {
    let process = process.clone();
    aside(move || process.fetch(kind)).await
}

/// What came, and what went, between two profiles; as Go's servers answer.
fn difference(earlier: Input, later: Input, seconds: u64) -> Result<schema::Profile> {
    let profile = input::combine(vec![later], vec![earlier], Merge::All(Periods::Apart), false)?;
    let mut message = message::message(&profile);
    message.duration_nanos = i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000_000);
    Ok(message)
}

/// Looks names up, where the process is.
pub fn give_names(process: &Process, profile: &mut schema::Profile) {
    let search = find::root_elsewhere(process.pid).into_iter().collect();
    symbolize::symbolize(profile, &symbolize::Options { search, ..symbolize::Options::default() });
}

impl Process {
    /// A profile of the process as it is now, without names.
    pub fn fetch(&self, kind: &str) -> Result<Input> {
        let bytes = self.client.ask(&format!("dump {kind}"))?;
        input::read_bytes(&self.client.path, &bytes, &Limits::DEFAULT)
    }

    /// Keeps a profile's modules.
    pub fn remember(&self, profile: &schema::Profile) {
        let modules = schema::Profile {
            mapping: profile.mapping.clone(),
            string_table: profile.string_table.clone(),
            ..schema::Profile::default()
        };
        if let Ok(mut kept) = self.modules.lock() {
            *kept = Some(modules);
        }
    }
}
