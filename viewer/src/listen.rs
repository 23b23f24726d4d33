//! Listening: what the servers of this program have in common.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::error::{Error, Result};

/// Listens at `listen`, where port 0 is any that is free, and runs `serve` with the listener and the address that it has.
/// Work that would block may be handed to at most `workers` threads at once.
///
/// # Errors
/// The address can't be had, or what `serve` answers.
pub fn run(
    listen: SocketAddr,
    workers: usize,
    serve: impl AsyncFnOnce(TcpListener, SocketAddr) -> Result<()>,
) -> Result<()> {
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
        serve(listener, address).await
    })
}
