//! `serve`: the page of `report` over files, directories in which dumps come and go, and running processes.
//!
//! The page itself is always the same; it asks for the list ([`catalog`]) and for what is chosen in it ([`shelf`]), by
//! numbers. [`guard`] says who may ask, [`listen`] how much, [`answer`] what is answered.

mod answer;
mod cache;
mod catalog;
mod guard;
mod live;
mod query;
mod shelf;

use core::fmt::Debug;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use pprof_export::reader::Limits;
use tokio::sync::Semaphore;

use crate::agent::guard::acceptable;
use crate::error::Result;
use crate::input::Input;
use crate::listen;
use crate::model::Profile;
use catalog::Catalog;
use guard::Guard;
use shelf::Shelf;

/// Requests that read or compute at once.
const WORKERS: usize = 2;

/// How profiles are read and prepared, which the command line decides.
pub trait Desk: Debug + Send + Sync {
    /// How much of a file is believed.
    fn limits(&self) -> Limits;
    /// Looks names up where a profile has none, below another root directory too; says what has none yet, and why.
    fn name(&self, input: &mut Input, root: Option<PathBuf>) -> Option<String>;
    /// Combines profiles, with the bases if there are any, and filters the result.
    ///
    /// # Errors
    /// They don't go together.
    fn prepare(&self, new: Vec<Input>, base: Vec<Input>) -> Result<Profile>;
    /// The column that is shown where the page asks for none.
    fn column(&self) -> Option<&str>;
    /// The lines of a source file that a profile names.
    ///
    /// # Errors
    /// Says why there are none.
    fn source(&self, path: &str) -> core::result::Result<Vec<String>, String>;
}

/// What to serve, and where.
#[derive(Debug)]
pub struct Plan {
    /// Files, directories, addresses, numbers of processes, sockets.
    pub words: Vec<PathBuf>,
    /// The address; port 0 is any that is free.
    pub listen: SocketAddr,
    /// What a client must know; chosen at random where there is none and the address is a loopback one.
    pub token: Option<String>,
    /// How profiles are read.
    pub desk: Arc<dyn Desk>,
}

/// What all requests share.
#[derive(Debug)]
struct Served {
    shelf: Shelf,
    guard: Guard,
    work: Arc<Semaphore>,
}

impl Plan {
    /// Serves until the process is ended. `started` is told, once somebody may connect, how many profiles there are and the
    /// address of the page, which has the token in it unless the user chose it.
    ///
    /// # Errors
    /// Something that was named isn't there, or the address can't be had, or only with a token.
    pub fn serve(self, started: impl FnOnce(usize, &str)) -> Result<()> {
        acceptable(self.token.as_deref(), self.listen)?;
        let shelf = Shelf::new(Catalog::new(&self.words)?, self.desk);
        let count = shelf.catalog.scan();
        let is_chosen = self.token.is_some();
        let token = self.token.map_or_else(guard::random_word, Ok)?;
        listen::run(self.listen, WORKERS, |address| {
            let shown = if is_chosen { "…".to_owned() } else { query::encode(&token) };
            let served = Served { shelf, guard: Guard::new(token, address), work: Arc::new(Semaphore::new(WORKERS)) };
            started(count, &format!("http://{address}/?token={shown}"));
            routes(Arc::new(served))
        })
    }
}

fn routes(served: Arc<Served>) -> Router {
    Router::new()
        .route("/", get(answer::page))
        .route("/dumps", get(answer::dumps))
        .route("/data", get(answer::data))
        .route("/trend", get(answer::trend))
        .route("/source", get(answer::source))
        .route("/take", post(answer::take))
        .route("/snapshot", get(answer::snapshot))
        .fallback(answer::nothing)
        .layer(axum::middleware::from_fn_with_state(served.clone(), guard::check))
        .with_state(served)
}
