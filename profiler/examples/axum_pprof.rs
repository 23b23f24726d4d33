//! A web service that shows where its memory went.
//!
//! ```sh
//! MALLOC_CONF=prof:true cargo run --release -p heapsift --example axum_pprof
//! curl http://127.0.0.1:3000/allocate/4096
//! curl -s http://127.0.0.1:3000/debug/pprof/heap | heapsift top --sites -
//! go tool pprof -top http://127.0.0.1:3000/debug/pprof/heap
//! ```
//!
//! It listens on the loopback interface only: a profile tells a stranger too much.

use std::sync::Mutex;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

#[global_allocator]
static GLOBAL: heapsift::Heapsift = heapsift::Heapsift;

/// What the service keeps, and never gives back.
static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

async fn work(Path(kib): Path<usize>) -> String {
    let kib = kib.min(1 << 20);
    let blocks = (0..kib).map(|_| vec![1u8; 1024]);
    match KEPT.lock() {
        Ok(mut kept) => {
            kept.extend(blocks);
            format!("{} KiB kept\n", kept.len())
        }
        Err(_) => "an earlier request failed\n".to_owned(),
    }
}

/// The heap profile, gzip pprof. Made on a thread that may block: a large one takes tens of milliseconds.
async fn heap() -> Response {
    match tokio::task::spawn_blocking(heapsift::profile::dump_to_vec).await {
        Ok(Ok(pprof)) => ([(header::CONTENT_TYPE, "application/octet-stream")], pprof).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("no profile: {error}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "no profile: the task failed\n").into_response(),
    }
}

async fn no_names() -> &'static str {
    "num_symbols: 0\n"
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    // As with MALLOC_CONF=prof:true, but from here on.
    heapsift::profile::set_enabled(true);
    let service = Router::new()
        .route("/allocate/{kib}", get(work))
        .route("/debug/pprof/heap", get(heap))
        .route("/debug/pprof/allocs", get(heap))
        // `go tool pprof` asks here for names that it doesn't find itself, and gives up where nobody answers. There are
        // none: names are looked up offline.
        .route("/debug/pprof/symbol", get(no_names).post(no_names));
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(3000u16);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}/debug/pprof/heap", listener.local_addr()?);
    axum::serve(listener, service).await
}
