//! The same file read by us and by `go tool pprof`: same verdict, same totals, same addresses.
//!
//! Needs `go`, and says so where there is none. Profiles that nobody here wrote are taken from
//! `HEAPSIFT_PROFILES` or `../shared/profiles` beside the repository, where there are any.

mod common;

use pprof_export::reader::{Error, Limits, decode, read_bounded};
use pprof_export::schema::Profile;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `-raw` says: the sums of the columns and the addresses that samples refer to.
#[derive(Debug, PartialEq)]
struct Summary {
    types: Vec<String>,
    totals: Vec<i64>,
    addresses: BTreeSet<u64>,
}

fn has_go() -> bool {
    let found = Command::new("go").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        let promised = std::env::var_os("HEAPSIFT_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!promised, "go is not installed");
        println!("skipped: go is not installed");
    }
    found
}

/// `None` if pprof refuses the file.
fn summary_of_go(path: &Path) -> Option<Summary> {
    let output = Command::new("go")
        .args(["tool", "pprof", "-symbolize=none", "-raw"])
        .arg(path)
        .env("PPROF_TMPDIR", std::env::temp_dir())
        .output()
        .unwrap();
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines = text.lines().skip_while(|line| *line != "Samples:").skip(1);
    let types: Vec<String> = lines.next()?.split(' ').map(|name| name.trim_end_matches("[dflt]").to_owned()).collect();
    let mut totals = vec![0; types.len()];
    let mut addresses = BTreeSet::new();
    let mut in_samples = true;
    for line in lines {
        if line == "Locations" {
            in_samples = false;
        } else if line == "Mappings" {
            break;
        } else if in_samples && !line.starts_with("       ")
            || in_samples && line.contains(": ") && !line.contains(":[")
        {
            let values = line.split(':').next()?.split_whitespace();
            for (total, value) in totals.iter_mut().zip(values) {
                *total += value.parse::<i64>().unwrap();
            }
        } else if !in_samples
            && let Some(address) = line.split_whitespace().nth(1).and_then(|word| word.strip_prefix("0x"))
        {
            addresses.insert(u64::from_str_radix(address, 16).unwrap());
        }
    }
    Some(Summary { types, totals, addresses })
}

fn summary_of_ours(profile: &Profile) -> Summary {
    let text = |index: i64| &profile.string_table[index as usize];
    let types: Vec<String> =
        profile.sample_type.iter().map(|t| format!("{}/{}", text(t.r#type), text(t.unit))).collect();
    let mut totals = vec![0i64; types.len()];
    let mut used: BTreeSet<u64> = BTreeSet::new();
    for sample in profile.sample.iter().filter(|sample| sample.value.iter().any(|&value| value != 0)) {
        totals.iter_mut().zip(&sample.value).for_each(|(total, value)| *total += value);
        used.extend(&sample.location_id);
    }
    let addresses = profile.location.iter().filter(|l| used.contains(&l.id)).map(|l| l.address).collect();
    Summary { types, totals, addresses }
}

#[test]
fn our_dump() {
    if !has_go() {
        return;
    }
    let file = tempfile::NamedTempFile::with_prefix("heapsift-export-").unwrap();
    fs::write(&file, common::dump()).unwrap();
    let theirs = summary_of_go(file.path()).expect("pprof reads our dump");
    let top = Command::new("go").args(["tool", "pprof", "-symbolize=none", "-top"]).arg(file.path()).output().unwrap();
    let ours = decode(&common::dump(), &Limits::DEFAULT).unwrap();
    assert_eq!(theirs, summary_of_ours(&ours));
    let top = String::from_utf8_lossy(&top.stdout).into_owned();
    assert!(top.contains("Type: inuse_space") && top.contains("of 128B total"), "{top}");
}

#[test]
fn profiles_of_others() {
    let folder = std::env::var_os("HEAPSIFT_PROFILES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/profiles"), PathBuf::from);
    let Ok(entries) = fs::read_dir(&folder) else {
        println!("skipped: there are no profiles in {}", folder.display());
        return;
    };
    let with_go = has_go();
    let (mut read, mut compared) = (0, 0);
    for entry in entries {
        let path = entry.unwrap().path();
        let file = read_bounded(fs::File::open(&path).unwrap(), &Limits::DEFAULT).unwrap();
        let profile = match decode(&file, &Limits::DEFAULT) {
            Ok(profile) => profile,
            // The formats before pprof's, which the viewer recognises by itself.
            Err(Error::NotPprof { .. }) => continue,
            Err(error) => {
                assert!(!with_go || summary_of_go(&path).is_none(), "{}: {error}", path.display());
                continue;
            }
        };
        read += 1;
        assert_eq!(
            decode(&pprof_export::encode_gzip(&profile), &Limits::DEFAULT).unwrap(),
            profile,
            "{}",
            path.display()
        );
        if with_go {
            let theirs = summary_of_go(&path).unwrap_or_else(|| panic!("pprof refuses {}", path.display()));
            assert_eq!(theirs, summary_of_ours(&profile), "{}", path.display());
            compared += 1;
        }
    }
    println!("{read} profiles read, {compared} compared with go tool pprof");
}
