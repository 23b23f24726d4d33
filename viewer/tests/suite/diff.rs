//! `diff`, `--base` and `--diff-base`.

use crate::support::{Scratch, json_of, output_of, service};

#[test]
fn a_leak_stands_out_and_the_rest_does_not() {
    let scratch = Scratch::new();
    let base = scratch.file("base.pb.gz", &service(40).gzip());
    let mut new = service(160);
    let fresh = new.stack(&["fresh", "main"]);
    new.sampled(&fresh, 512, 1);
    let new = scratch.file("new.pb.gz", &new.gzip());
    let table = json_of(&["diff", "--json", &base, &new]);
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["name"], "remember");
    assert_eq!(
        (rows[0]["kind"].as_str(), rows[0]["significant"].as_bool()),
        (Some("grown"), Some(true))
    );
    assert_eq!(rows[0]["base"]["samples"], 40);
    assert_eq!(rows[0]["new"]["samples"], 160);
    // One sample more is a change, but not one to rely on.
    assert_eq!(rows[1]["name"], "fresh");
    assert_eq!(
        (rows[1]["kind"].as_str(), rows[1]["significant"].as_bool()),
        (Some("new"), Some(false))
    );

    let text = output_of(&["diff", &base, &new]);
    let row = text.lines().find(|line| line.contains("remember")).unwrap();
    assert!(
        row.trim_start().starts_with("+60.") && row.contains(" * "),
        "{text}"
    );
    let row = text.lines().find(|line| line.contains("fresh")).unwrap();
    assert!(!row.contains('*'), "{text}");

    // The other way round, what is new is gone.
    let back = json_of(&["diff", "--json", &new, &base]);
    assert_eq!(back["rows"][1]["kind"], "gone");
    assert_eq!(
        back["rows"][0]["delta"].as_i64().unwrap(),
        -rows[0]["delta"].as_i64().unwrap()
    );
}

#[test]
fn equal_profiles_do_not_differ_wherever_they_are_mapped() {
    let scratch = Scratch::new();
    let base = service(40);
    let mut moved = service(40);
    for mapping in &mut moved.profile.mapping {
        mapping.memory_start += 0x5555_0000;
        mapping.memory_limit += 0x5555_0000;
    }
    for location in &mut moved.profile.location {
        location.address += 0x5555_0000;
    }
    let base = scratch.file("base.pb.gz", &base.gzip());
    let moved = scratch.file("moved.pb.gz", &moved.gzip());
    for rows in ["--functions", "--addresses", "--lines", "--sites"] {
        let table = json_of(&["diff", "--json", rows, &base, &moved]);
        assert_eq!(table["rows"].as_array().unwrap().len(), 0, "{rows}");
        assert_eq!(table["total"]["delta"], 0);
        let table = json_of(&["top", "--json", rows, "--diff-base", &base, &moved]);
        assert_eq!(table["rows"].as_array().unwrap().len(), 0, "{rows}");
    }
}

#[test]
fn bases_are_subtracted_as_in_pprof() {
    let scratch = Scratch::new();
    let base = scratch.file("base.pb.gz", &service(40).gzip());
    let new = scratch.file("new.pb.gz", &service(60).gzip());
    let compared = output_of(&["top", "-diff_base", &base, &new]);
    // The base is 100 %.
    assert!(
        compared.contains("Showing nodes accounting for 10.01MB, 18.00% of 55.62MB total"),
        "{compared}"
    );
    let subtracted = output_of(&["top", "-base", &base, &new]);
    assert!(
        subtracted.contains("Showing nodes accounting for 10.01MB, 100% of 10.01MB total"),
        "{subtracted}"
    );
}

#[test]
fn columns_must_be_the_same() {
    let scratch = Scratch::new();
    let base = scratch.file("base.pb.gz", &service(40).gzip());
    let mut other = service(40);
    let kind = other.string("contentions");
    other.profile.sample_type[3].r#type = kind;
    let other = scratch.file("other.pb.gz", &other.gzip());
    let output = crate::support::heapsift(&["diff", &other, &base]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        errors,
        format!(
            "heapsift: {other}: it has no sample type inuse_space/bytes, which the first file has\n"
        )
    );
}
