//! Requests and their answers.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::catalog::{Id, Origin};
use super::shelf::{Shelf, lock};
use super::{Served, guard, query};
use crate::escape;
use crate::graph::{Granularity, Trim};
use crate::model::BaseUse;
use crate::report::list::List;
use crate::report::{self, page};

/// What went wrong, as one line for whoever asks.
#[derive(Debug)]
pub struct Failure {
    status: StatusCode,
    text: String,
}

impl Failure {
    /// With a status, and a text that becomes one line.
    pub fn new(status: StatusCode, text: &str) -> Self {
        Self { status, text: escape::terminal(text).into_owned() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{}\n", self.text)).into_response()
    }
}

type Answer = core::result::Result<Response, Failure>;
type Shared = State<Arc<Served>>;

/// What is asked for: a profile, its base, a column.
struct Asked {
    new: Id,
    base: Option<Id>,
    column: Option<String>,
}

fn number<T: core::str::FromStr>(query: Option<&str>, name: &str) -> core::result::Result<Option<T>, Failure> {
    let Some(text) = query::parameter(query, name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Failure::new(StatusCode::BAD_REQUEST, &format!("{name}: not a number")))
}

fn needed<T>(value: Option<T>, name: &str) -> core::result::Result<T, Failure> {
    value.ok_or_else(|| Failure::new(StatusCode::BAD_REQUEST, &format!("{name} is missing")))
}

fn asked(query: Option<&str>) -> core::result::Result<Asked, Failure> {
    let new = needed(number(query, "new")?, "new")?;
    Ok(Asked { new, base: number(query, "base")?, column: query::parameter(query, "type") })
}

fn as_json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string()).into_response()
}

/// Runs what reads or computes where it holds up nobody, a few of them at once: each may need much memory.
async fn aside(served: Arc<Served>, work: impl FnOnce(&Shelf) -> Answer + Send + 'static) -> Answer {
    let failed = || Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be carried out");
    let slot = served.work.clone().acquire_owned().await.map_err(|_| failed())?;
    let done = tokio::task::spawn_blocking(move || {
        let answer = work(&served.shelf);
        drop(slot);
        answer
    });
    done.await.map_err(|_| failed())?
}

/// The page. It has a nonce of its own each time, so that nothing that isn't in it can run.
pub async fn page(State(_): Shared) -> Answer {
    let failed = |_| Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "there are no random numbers");
    let nonce = guard::random_word().map_err(failed)?;
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let mut response = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page::served(&nonce)).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// The list: `?seen=REVISION` answers with less where nothing has changed.
pub async fn dumps(State(served): Shared, RawQuery(query): RawQuery) -> Answer {
    let seen = number(query.as_deref(), "seen")?;
    aside(served, move |shelf| Ok(as_json(&shelf.list(seen)))).await
}

/// All that the page shows of a profile: `?new=ID&base=ID&type=COLUMN`.
pub async fn data(State(served): Shared, RawQuery(query): RawQuery) -> Answer {
    let Asked { new, base, column } = asked(query.as_deref())?;
    aside(served, move |shelf| {
        let view = shelf.view(new, base)?;
        let mut profile = lock(&view.profile);
        let columns = shelf.columns(&profile, column.as_deref());
        let options = page::Options { columns, title: String::new(), shown: view.name.clone() };
        let mut data = page::data(&mut profile, &options);
        drop(profile);
        data["new"] = new.into();
        data["base"] = base.into();
        data["note"] = view.note.as_deref().map(escape::terminal).into();
        if shelf.catalog.series(new).len() >= 3 {
            // It is made of many files, when somebody looks at it.
            data["trend"] = "later".into();
        }
        Ok(as_json(&data))
    })
    .await
}

/// The trend up to a profile: `?new=ID&type=COLUMN`.
pub async fn trend(State(served): Shared, RawQuery(query): RawQuery) -> Answer {
    let Asked { new, column, .. } = asked(query.as_deref())?;
    aside(served, move |shelf| shelf.trend(new, column.as_deref()).map(|trend| as_json(&trend))).await
}

/// Source lines with their sums: `?new=ID&base=ID&type=COLUMN` and `function=NAME`, or `file=PATH`. What the profile doesn't
/// name isn't there.
pub async fn source(State(served): Shared, RawQuery(query): RawQuery) -> Answer {
    let Asked { new, base, column } = asked(query.as_deref())?;
    let wanted = |name| query::parameter(query.as_deref(), name).filter(|text| !text.is_empty());
    let (function, file) = (wanted("function"), wanted("file"));
    if function.is_none() && file.is_none() {
        return needed(None, "function");
    }
    aside(served, move |shelf| {
        let view = shelf.view(new, base)?;
        let mut profile = lock(&view.profile);
        let columns = shelf.columns(&profile, column.as_deref());
        // The page knows names as they are shown.
        let is =
            |asked: &Option<String>, text: &str| asked.as_ref().is_none_or(|asked| escape::terminal(text) == *asked);
        let is_asked = |name: &str, path: &str| is(&function, name) && is(&file, path);
        let list = List::new(&mut profile, lines(columns), &is_asked, true, &mut |path| shelf.source(path));
        let list =
            list.ok_or_else(|| Failure::new(StatusCode::NOT_FOUND, "the profile names no such function or file"))?;
        Ok(as_json(&json!({"functions": list.for_page()})))
    })
    .await
}

/// Takes a profile of something that is alive: `?of=ID&kind=KIND`.
pub async fn take(State(served): Shared, RawQuery(query): RawQuery) -> Answer {
    let of = needed(number(query.as_deref(), "of")?, "of")?;
    let kind = query::parameter(query.as_deref(), "kind").filter(|kind| !kind.is_empty());
    aside(served, move |shelf| shelf.take(of, kind.as_deref()).map(|id| as_json(&json!({"id": id})))).await
}

/// A profile that was taken, to be kept: `?id=ID`.
pub async fn snapshot(State(served): Shared, RawQuery(query): RawQuery) -> Answer {
    let id = needed(number::<Id>(query.as_deref(), "id")?, "id")?;
    let entry = served.shelf.catalog.get(id).map(|entry| entry.origin);
    let Some(Origin::Snapshot(bytes, ..)) = entry else {
        return Err(Failure::new(StatusCode::NOT_FOUND, "there is no such snapshot"));
    };
    let disposition = format!("attachment; filename=\"snapshot-{id}.pb.gz\"");
    let headers =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, bytes).into_response())
}

/// Anything else.
pub async fn nothing() -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "there is nothing here")
}

/// Lines, all of them.
fn lines(columns: crate::model::Columns) -> report::Options {
    report::Options {
        columns,
        granularity: Granularity::Lines,
        trim: Trim { by_cum: false, node_count: 0, node_fraction: 0.0, edge_fraction: 0.0, drop_negative: false },
        unit: "auto".to_owned(),
        ratio: 1.0,
        total: 0,
        filters: Vec::new(),
        base: BaseUse::None,
        divisor: None,
    }
}
