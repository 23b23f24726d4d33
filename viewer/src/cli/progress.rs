//! How far a long command has got, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often it is told.
const EVERY: Duration = Duration::from_millis(200);

/// One line on standard error that is written again and again, and gone in the end. Nothing where that is no terminal.
#[derive(Debug)]
pub struct Progress {
    total: usize,
    done: usize,
    started: Instant,
    told: Instant,
    is_on: bool,
    is_shown: bool,
}

impl Progress {
    /// Nothing of `total` files is done.
    pub fn new(total: usize) -> Self {
        let now = Instant::now();
        Self { total, done: 0, started: now, told: now, is_on: io::stderr().is_terminal(), is_shown: false }
    }

    /// One more file is done.
    pub fn step(&mut self) {
        self.done += 1;
        if self.is_on && self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            self.is_shown = true;
            let line = line(self.done, self.total, self.started.elapsed());
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    }

    /// Makes room for another line.
    pub fn clear(&mut self) {
        if core::mem::take(&mut self.is_shown) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// `120 of 10000 files, 5:12 left`.
fn line(done: usize, total: usize, elapsed: Duration) -> String {
    let left = elapsed.as_secs_f64() / done.max(1) as f64 * total.saturating_sub(done) as f64;
    let left = left.round() as u64;
    format!("{done} of {total} files, {}:{:02} left", left / 60, left % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_time_spent() {
        assert_eq!(line(25, 100, Duration::from_secs(31)), "25 of 100 files, 1:33 left");
        assert_eq!(line(100, 100, Duration::from_secs(31)), "100 of 100 files, 0:00 left");
        assert_eq!(line(0, 0, Duration::ZERO), "0 of 0 files, 0:00 left");
    }
}
