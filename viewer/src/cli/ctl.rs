//! `ctl`: a running process is asked, or told, by its control socket.

use std::io::Write;
use std::time::Duration;

use super::{args, reports};
use crate::control::{Client, numbers};
use crate::error::{Error, Result};
use crate::{escape, measure, output};

/// Carries the request out.
pub fn ctl(arguments: args::Ctl) -> Result<()> {
    let client = Client::of(&arguments.target)?;
    match arguments.request {
        args::Request::Get { names } => get(&client, &names),
        args::Request::Set { name, value } => match value {
            Some(value) => client.ask(&format!("set {name} {value}")).map(drop),
            // Without a value jemalloc's calls leave a setting as it is, and say that all went well.
            None if !name.ends_with(".create") && client.ask(&format!("get {name}")).is_ok() => {
                Err(Error::Usage(format!("{name} is a setting: give the value that it is to have")))
            }
            None => client.ask(&format!("set {name}")).map(drop),
        },
        args::Request::Dump { kind, output } => {
            let dump = client.ask(&format!("dump {kind}"))?;
            output::profile_to_path(&output, &dump)
        }
        args::Request::Top(top) => reports::top(&[client.path], &top),
        args::Request::Stats { json, options } => {
            let letters = if json { format!("J{options}") } else { options };
            show(&client.text(format!("stats {letters}").trim_end())?)
        }
        args::Request::Watch { interval, count, json } => watch(&client, interval, count, json),
        args::Request::Metrics => show(&client.text("metrics")?),
        args::Request::Enable { sample } => {
            let request = sample.map_or("enable".to_owned(), |bytes| format!("enable {bytes}"));
            client.ask(&request).map(drop)
        }
        args::Request::Disable => client.ask("disable").map(drop),
        args::Request::Reset => client.ask("reset").map(drop),
    }
}

/// One value by itself; several with their names.
fn get(client: &Client, names: &[String]) -> Result<()> {
    let mut text = String::new();
    for name in names {
        let value = client.text(&format!("get {name}"))?;
        if names.len() > 1 {
            text.push_str(name);
            text.push(' ');
        }
        text.push_str(&value);
    }
    show(&text)
}

/// Writes what a process says. It may say anything: a socket's path is whoever listens there.
fn show(text: &str) -> Result<()> {
    output::to_stdout(escape::lines(text).as_bytes())
}

/// What `watch` shows: a heading, and the number's name among the metrics.
const COLUMNS: [(&str, &str); 6] = [
    ("allocated", "heapsift_allocated_bytes"),
    ("active", "heapsift_active_bytes"),
    ("cached", "heapsift_thread_cache_bytes"),
    ("dirty", "heapsift_dirty_bytes"),
    ("resident", "heapsift_resident_bytes"),
    ("process", "heapsift_process_resident_bytes"),
];
/// Lines between two headings.
const HEADING_EACH: u64 = 20;

fn watch(client: &Client, interval: f64, count: u64, json: bool) -> Result<()> {
    let pause = Duration::try_from_secs_f64(interval)
        .ok()
        .filter(|pause| *pause >= Duration::from_millis(10))
        .ok_or_else(|| Error::Usage("--interval: at least 0.01 seconds".to_owned()))?;
    let started = std::time::Instant::now();
    let (mut due, mut line) = (started, 0u64);
    let mut samples_before = None;
    loop {
        let text = client.text("metrics")?;
        let seconds = started.elapsed().as_secs_f64();
        let value = |name: &str| numbers::value(&text, name).unwrap_or(0);
        let samples = value("heapsift_samples_total");
        let enabled = value("heapsift_profiling_active") != 0;
        let new = samples.saturating_sub(samples_before.replace(samples).unwrap_or(samples));
        let mut out = String::new();
        if json {
            let mut object = serde_json::Map::new();
            object.insert("seconds".to_owned(), ((seconds * 1000.0).round() / 1000.0).into());
            for (heading, name) in COLUMNS {
                object.insert(format!("{heading}_bytes"), value(name).into());
            }
            object.insert("samples".to_owned(), samples.into());
            object.insert("sampling".to_owned(), enabled.into());
            out = format!("{}\n", serde_json::Value::Object(object));
        } else {
            if line.is_multiple_of(HEADING_EACH) {
                out.push_str("  seconds");
                COLUMNS.iter().for_each(|(heading, _)| out.push_str(&format!(" {heading:>11}")));
                out.push_str("   new samples\n");
            }
            out.push_str(&format!("{seconds:>9.1}"));
            for (_, name) in COLUMNS {
                let shown = measure::label(value(name).into(), "bytes", "auto");
                out.push_str(&format!(" {shown:>11}"));
            }
            if enabled {
                out.push_str(&format!("   {new:>11}\n"));
            } else {
                out.push_str("   profiling is off\n");
            }
        }
        output::to_stdout(out.as_bytes())?;
        // A pipe must have each line as it comes.
        let _ = std::io::stdout().flush();
        line += 1;
        if count != 0 && line >= count {
            return Ok(());
        }
        due += pause;
        std::thread::sleep(due.saturating_duration_since(std::time::Instant::now()));
    }
}
