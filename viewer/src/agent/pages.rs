//! The page that says what there is.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;

use super::profile::PROFILES;
use super::{Agent, Process};
use crate::escape;

/// All processes, and what can be had of each.
pub async fn index(State(agent): State<Arc<Agent>>) -> Html<String> {
    let mut page = String::from(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>heapsift agent</title>\n\
         <style>body{font:15px/1.5 system-ui,sans-serif;margin:2em;max-width:50em}td{padding-right:1.5em}</style>\n\
         </head><body>\n<h1>heapsift agent</h1>\n",
    );
    let alone = agent.processes.len() == 1;
    for process in &agent.processes {
        let base = if alone { String::new() } else { format!("/{}", process.pid) };
        let _ = writeln!(page, "<h2>{} {}</h2>\n<table>", process.pid, escape::xml(&program(process)));
        let mut row = |path: &str, text: &str| {
            let _ = writeln!(page, "<tr><td><a href=\"{base}{path}\">{path}</a></td><td>{text}</td></tr>");
        };
        for (name, _, _, text) in PROFILES {
            row(&format!("/debug/pprof/{name}"), text);
        }
        row("/debug/pprof/allocs?seconds=10", "the difference over ten seconds");
        row("/debug/pprof/cmdline", "the command line");
        row("/metrics", "numbers, as OpenMetrics text");
        page.push_str("</table>\n");
    }
    if !alone {
        page.push_str("<p><a href=\"/metrics\">/metrics</a> has the numbers of all.</p>\n");
    }
    page.push_str("</body></html>\n");
    Html(page)
}

fn program(process: &Process) -> String {
    let name = std::fs::read(format!("/proc/{}/comm", process.pid)).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}
