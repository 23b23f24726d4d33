//! Listening: what the servers of this program have in common, and how many connections there are, how long they may take to
//! ask, and how much they may say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// At once; others wait until one of these ends.
const CONNECTIONS: usize = 64;
/// For the whole head of a request, from when the connection is there or the answer before it has gone.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Of the head. Browsers send along what all servers of this machine have had them keep, whatever their ports.
const HEAD_BYTES: usize = 32 << 10;
const HEADERS: usize = 64;
/// Until it is tried again when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens at `listen`, where port 0 is any that is free, and serves what `router` makes of the address that it has, until the
/// process is ended. `router` is told the address once somebody may connect. Work that would block may be handed to at most
/// `workers` threads at once. What comes behind a head that no handler reads ends the connection.
///
/// # Errors
/// The address can't be had.
pub fn run(listen: SocketAddr, workers: usize, router: impl FnOnce(SocketAddr) -> Router) -> Result<()> {
    let cannot = |what: String| move |error: std::io::Error| Error::Usage(format!("{what}: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(workers)
        .build()
        .map_err(cannot("cannot start".to_owned()))?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await.map_err(cannot(format!("cannot listen at {listen}")))?;
        let address = listener.local_addr().unwrap_or(listen);
        serve(listener, router(address)).await;
        Ok(())
    })
}

async fn serve(listener: TcpListener, router: Router) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_headers(HEADERS).max_buf_size(HEAD_BYTES);
    // It is never closed.
    while let Ok(slot) = slots.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        tokio::spawn(async move {
            // A client that goes away is no failure of ours.
            let _ = connection.await;
            drop(slot);
        });
    }
}
