//! `/debug/pprof/…` and `/metrics` by HTTP, for processes that have a control socket: what `go tool pprof`, Prometheus,
//! Parca and Pyroscope ask for.
//!
//! The server is a process of its own, so that none runs inside of other people's. It asks by the socket, puts names into
//! profiles, and hands them on.

#![allow(clippy::result_large_err, reason = "a failure is a response, as a success is")]

pub(crate) mod guard;
mod names;
mod pages;
mod profile;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use pprof_export::schema;

use crate::control::{Client, numbers};
use crate::error::{Error, Result};
use crate::listen;
use crate::threads::on_threads;

/// Requests that are worked on at once: each may hold a dump and its names.
const WORKERS: usize = 8;

/// How long processes may take to tell their numbers. Whoever scrapes them gives up after ten seconds, as a rule.
const NUMBERS: Duration = Duration::from_secs(4);

/// What to serve, and where.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The processes, at least one.
    pub pids: Vec<u32>,
    /// The address.
    pub listen: SocketAddr,
    /// What a client must know. There is one unless the address is a loopback one.
    pub token: Option<String>,
}

/// A process that is served.
#[derive(Debug)]
struct Process {
    pid: u32,
    client: Client,
    /// The last profile's modules, for addresses that come alone; without samples.
    modules: Mutex<Option<schema::Profile>>,
}

/// What all requests share.
#[derive(Debug)]
struct Agent {
    processes: Vec<Arc<Process>>,
    guard: guard::Guard,
}

impl Process {
    /// Its numbers, as OpenMetrics text.
    fn numbers(&self) -> Result<Vec<u8>> {
        self.client.ask_within("metrics", NUMBERS)
    }
}

type Shared = State<Arc<Agent>>;

impl Plan {
    /// Serves until the process is ended. `started` is told the address once somebody may connect.
    ///
    /// # Errors
    /// A process can't be asked, or the address can't be had.
    pub fn serve(self, started: impl FnOnce(SocketAddr)) -> Result<()> {
        let mut processes = Vec::new();
        for &pid in &self.pids {
            let client = Client::of(&pid.to_string())?;
            client.ask("get version")?;
            processes.push(Arc::new(Process { pid, client, modules: Mutex::new(None) }));
        }
        let guard = guard::Guard::new(self.token, self.listen)?;
        let agent = Arc::new(Agent { processes, guard });
        listen::run(self.listen, WORKERS, |address| {
            started(address);
            routes(agent)
        })
    }
}

fn routes(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/", get(pages::index))
        .route("/metrics", get(metrics))
        .route("/debug/pprof", get(pages::index))
        .route("/debug/pprof/", get(pages::index))
        .route("/debug/pprof/symbol", get(only_symbol).post(only_symbol))
        .route("/debug/pprof/{name}", get(only_profile))
        .route("/{pid}/metrics", get(metrics_of))
        .route("/{pid}/debug/pprof", get(pages::index))
        .route("/{pid}/debug/pprof/", get(pages::index))
        .route("/{pid}/debug/pprof/symbol", get(symbol_of).post(symbol_of))
        .route("/{pid}/debug/pprof/{name}", get(profile_of))
        .layer(axum::middleware::from_fn(names::whole))
        .layer(axum::middleware::from_fn_with_state(agent.clone(), guard::check))
        .with_state(agent)
}

impl Agent {
    /// The process of a path, or the only one.
    fn find(&self, pid: Option<&str>) -> core::result::Result<Arc<Process>, Response> {
        match (pid, &self.processes[..]) {
            (None, [only]) => Ok(only.clone()),
            (None, _) => {
                Err(plain(StatusCode::NOT_FOUND, "several processes are served: /PID/debug/pprof/…\n".to_owned()))
            }
            (Some(pid), all) => all
                .iter()
                .find(|process| process.pid.to_string() == pid)
                .cloned()
                .ok_or_else(|| plain(StatusCode::NOT_FOUND, "this process isn't served\n".to_owned())),
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response {
    // Tells pprof that the body says what is wrong.
    let headers = [(header::CONTENT_TYPE.as_str(), "text/plain; charset=utf-8"), ("x-go-pprof", "1")];
    (status, headers, text).into_response()
}

/// A failure of the process that was asked.
fn failed(error: &Error) -> Response {
    plain(StatusCode::BAD_GATEWAY, format!("{error}\n"))
}

/// Runs what waits for a process, or computes, where it holds up nobody.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> core::result::Result<T, Response> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| failed(&error)),
        Err(_) => Err(plain(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be carried out\n".to_owned())),
    }
}

async fn only_profile(State(agent): Shared, Path(name): Path<String>, query: RawQuery) -> Response {
    either(agent.find(None), |process| profile::answer(process, name, query)).await
}

async fn profile_of(State(agent): Shared, Path((pid, name)): Path<(String, String)>, query: RawQuery) -> Response {
    either(agent.find(Some(&pid)), |process| profile::answer(process, name, query)).await
}

async fn only_symbol(State(agent): Shared, query: RawQuery, body: String) -> Response {
    either(agent.find(None), |process| names::answer(process, query, body)).await
}

async fn symbol_of(State(agent): Shared, Path(pid): Path<String>, query: RawQuery, body: String) -> Response {
    either(agent.find(Some(&pid)), |process| names::answer(process, query, body)).await
}

async fn either<F: Future<Output = Response>>(
    process: core::result::Result<Arc<Process>, Response>,
    answer: impl FnOnce(Arc<Process>) -> F,
) -> Response {
    match process {
        Ok(process) => answer(process).await,
        Err(response) => response,
    }
}

async fn metrics(State(agent): Shared) -> Response {
    let processes = agent.processes.clone();
    open_metrics(
        aside(move || match &processes[..] {
            [only] => only.numbers(),
            all => numbers_of(all),
        })
        .await,
    )
}

/// The numbers of several processes in one text. All are asked at once, so that one that hangs keeps nobody waiting for the
/// others; that it does is a number, too.
///
/// # Errors
/// None of them answers.
fn numbers_of(processes: &[Arc<Process>]) -> Result<Vec<u8>> {
    let next = Mutex::new(processes.iter());
    let answers = on_threads(processes.len(), || {
        let take = || next.lock().ok().and_then(|mut next| next.next());
        let mut answers = Vec::new();
        while let Some(process) = take() {
            answers.push((process.pid, process.numbers()));
        }
        answers
    });
    let mut answers: Vec<_> = answers.into_iter().flatten().collect();
    answers.sort_by_key(|(pid, _)| *pid);
    let (mut texts, mut is_any_up, mut failure) = (Vec::new(), false, None);
    for (pid, answer) in answers {
        let label = numbers::label("pid", &pid.to_string());
        let is_up = u8::from(answer.is_ok());
        let up = "# TYPE heapsift_up gauge\n# HELP heapsift_up Whether the process answers.\nheapsift_up";
        texts.push((label.clone(), format!("{up} {is_up}\n")));
        match answer {
            Ok(text) => texts.push((label, String::from_utf8_lossy(&text).into_owned())),
            Err(error) => failure = Some(error),
        }
        is_any_up |= is_up == 1;
    }
    match failure {
        Some(error) if !is_any_up => Err(error),
        _ => Ok(numbers::merge(&texts).into_bytes()),
    }
}

async fn metrics_of(State(agent): Shared, Path(pid): Path<String>) -> Response {
    match agent.find(Some(&pid)) {
        Ok(process) => open_metrics(aside(move || process.numbers()).await),
        Err(response) => response,
    }
}

fn open_metrics(text: core::result::Result<Vec<u8>, Response>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(response) => response,
    }
}
