//! Connections: how many there are, how long they may take to ask, and how much they may say.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// At once; others wait until one of these ends.
const CONNECTIONS: usize = 64;
/// For the whole head of a request, from when the connection is there or the answer before it has gone.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// Of the head. Browsers send along what all servers of this machine have had them keep, whatever their ports.
const HEAD_BYTES: usize = 32 << 10;
const HEADERS: usize = 64;
/// Until it is tried again when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever. No handler reads a body: what comes behind a head ends the connection.
pub async fn serve(listener: TcpListener, router: Router) {
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
