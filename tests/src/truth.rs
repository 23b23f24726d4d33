//! What a fixture says about itself, read from its JSON.

use std::path::Path;

use serde_json::Value;

use crate::statistics::{expected_samples, variance};

/// One call site's true figures.
#[derive(Clone, Debug)]
pub struct Site {
    /// The function's name, as it appears in a profile.
    pub name: String,
    /// Where its code begins in the process; 0 if the fixture doesn't say.
    pub code: u64,
    /// Live usable bytes.
    pub live_bytes: u64,
    /// Live blocks.
    pub live_count: u64,
    /// Usable bytes ever allocated.
    pub allocated_bytes: u64,
    /// (usable size, live blocks).
    pub live_sizes: Vec<(u64, u64)>,
}

impl Site {
    /// Standard error of the estimated live bytes.
    pub fn standard_error(&self, interval: f64) -> f64 {
        variance(&self.live_sizes, interval).sqrt()
    }

    /// Expected samples of the live blocks.
    pub fn expected_samples(&self, interval: f64) -> f64 {
        expected_samples(&self.live_sizes, interval)
    }
}

/// Reads a fixture's report from a file.
pub fn read(path: &Path) -> Vec<Site> {
    let text = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text)
}

/// Reads a fixture's report.
pub fn parse(text: &[u8]) -> Vec<Site> {
    let report: Value = serde_json::from_slice(text).expect("the report of a fixture is JSON");
    let number = |value: &Value| value.as_u64().expect("a number");
    let pairs = |value: &Value| -> Vec<(u64, u64)> {
        let pairs = value.as_array().expect("a list of pairs");
        pairs.iter().map(|pair| (number(&pair[0]), number(&pair[1]))).collect()
    };
    let sites = report["sites"].as_array().expect("a list of sites");
    sites
        .iter()
        .map(|site| Site {
            name: site["name"].as_str().expect("a name").to_owned(),
            code: site["code"].as_u64().unwrap_or(0),
            live_bytes: number(&site["live_bytes_usable"]),
            live_count: number(&site["live_count"]),
            allocated_bytes: number(&site["allocated_bytes_usable"]),
            live_sizes: pairs(&site["live_sizes"]),
        })
        .collect()
}
