//! A source that works ahead, on a thread of its own.

use super::{Error, Source};
use alloc::vec::Vec;
use std::io;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{Builder, Scope};

/// Pieces that wait to be taken. They are made and used again, so that they stay in the processors' caches.
const PIECES: usize = 2;

/// What comes out of a source on another thread.
pub struct Ahead {
    pieces: Receiver<Result<Vec<u8>, Error>>,
    spent: Sender<Vec<u8>>,
}

impl Ahead {
    /// Lets `source` work until it has ended, has failed, or nobody listens any more.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start<'scope>(scope: &'scope Scope<'scope, '_>, source: impl Source + Send + 'scope) -> io::Result<Self> {
        let (sender, pieces) = mpsc::sync_channel(PIECES);
        let (spent, buffers) = mpsc::channel();
        Builder::new().spawn_scoped(scope, move || work(source, &sender, &buffers))?;
        Ok(Self { pieces, spent })
    }
}

fn work(mut source: impl Source, pieces: &SyncSender<Result<Vec<u8>, Error>>, buffers: &Receiver<Vec<u8>>) {
    loop {
        let mut piece = buffers.try_recv().unwrap_or_default();
        piece.clear();
        let (piece, is_last) = match source.more(&mut piece) {
            Ok(true) => (Ok(piece), false),
            Ok(false) => return,
            Err(error) => (Err(error), true),
        };
        if pieces.send(piece).is_err() || is_last {
            return;
        }
    }
}

impl Source for Ahead {
    fn more(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        // The other side is gone when the source has ended.
        let Ok(piece) = self.pieces.recv() else { return Ok(false) };
        let piece = piece?;
        out.extend_from_slice(&piece);
        // That it has ended meanwhile does no harm.
        let _ = self.spent.send(piece);
        Ok(true)
    }
}
