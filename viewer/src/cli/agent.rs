//! `agent`: processes are served by HTTP.

use std::fs;

use super::{args, tell};
use crate::agent::Plan;
use crate::error::{Error, Result};

/// Serves until it is ended.
pub fn agent(arguments: args::Agent) -> Result<()> {
    let token = arguments.token.map(token).transpose()?;
    let mut pids = arguments.pids;
    let mut seen = std::collections::HashSet::new();
    pids.retain(|pid| seen.insert(*pid));
    let names: Vec<String> = pids.iter().map(u32::to_string).collect();
    let plural = if pids.len() == 1 { "" } else { "es" };
    let plan = Plan { pids, listen: arguments.listen, token };
    plan.serve(|address| tell(&format!("serving process{plural} {} at http://{address}/", names.join(", "))))
}

/// The token, or the first line of the file that holds it.
pub(super) fn token(given: String) -> Result<String> {
    let Some(path) = given.strip_prefix('@') else { return Ok(given) };
    let path = std::path::Path::new(path);
    let text = fs::read_to_string(path).map_err(|source| Error::io("read", path, source))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
