//! Work that several threads share.

use std::sync::Mutex;
use std::thread;

/// Runs the same on so many threads, this one among them; what each made of it.
pub fn on_threads<T: Send>(workers: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    let done = Mutex::new(Vec::new());
    let keep = || {
        let made = work();
        // A panic elsewhere ends everything anyhow.
        if let Ok(mut done) = done.lock() {
            done.push(made);
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            // Where no thread can be had, this one does all the work.
            let _ = thread::Builder::new().spawn_scoped(scope, keep);
        }
        keep();
    });
    done.into_inner().unwrap_or_default()
}
