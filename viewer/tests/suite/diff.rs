//! `diff`, `--base` and `--diff-base`.

use pprof_export::schema::ValueType;

use crate::support::{Builder, Scratch, heapsift, json_of, output_of, service};

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
    assert_eq!((rows[0]["kind"].as_str(), rows[0]["significant"].as_bool()), (Some("grown"), Some(true)));
    assert_eq!(rows[0]["base"]["samples"], 40);
    assert_eq!(rows[0]["new"]["samples"], 160);
    // One sample more is a change, but not one to rely on.
    assert_eq!(rows[1]["name"], "fresh");
    assert_eq!((rows[1]["kind"].as_str(), rows[1]["significant"].as_bool()), (Some("new"), Some(false)));

    let text = output_of(&["diff", &base, &new]);
    let row = text.lines().find(|line| line.contains("remember")).unwrap();
    assert!(row.trim_start().starts_with("+60.") && row.contains(" * "), "{text}");
    let row = text.lines().find(|line| line.contains("fresh")).unwrap();
    assert!(!row.contains('*'), "{text}");

    // The other way round, what is new is gone.
    let back = json_of(&["diff", "--json", &new, &base]);
    assert_eq!(back["rows"][1]["kind"], "gone");
    assert_eq!(back["rows"][0]["delta"].as_i64().unwrap(), -rows[0]["delta"].as_i64().unwrap());
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
    assert!(compared.contains("Showing nodes accounting for 10.01MB, 18.00% of 55.62MB total"), "{compared}");
    let subtracted = output_of(&["top", "-base", &base, &new]);
    assert!(subtracted.contains("Showing nodes accounting for 10.01MB, 100% of 10.01MB total"), "{subtracted}");
}

/// A service of which less is known: what it has of the usual columns, and perhaps another one.
fn with_columns(kept: &[usize], other: Option<&str>) -> Builder {
    let mut builder = service(60);
    let types = kept.iter().map(|&at| builder.profile.sample_type[at]).collect();
    builder.profile.sample_type = types;
    for sample in &mut builder.profile.sample {
        sample.value = kept.iter().map(|&at| sample.value[at]).chain(other.map(|_| 7)).collect();
    }
    if let Some(name) = other {
        let (kind, unit) = (builder.string(name), builder.string("count"));
        builder.profile.sample_type.push(ValueType { r#type: kind, unit });
    }
    builder
}

#[test]
fn columns_that_all_files_have_are_compared() {
    let scratch = Scratch::new();
    let all = scratch.file("all.pb.gz", &service(40).gzip());
    let live = scratch.file("live.pb.gz", &with_columns(&[3, 2], Some("contentions")).gzip());
    for (words, change) in [([&all, &live], 10_496_000), ([&live, &all], -10_496_000)] {
        let output = heapsift(&["diff", "--json", words[0], words[1]]);
        let table: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(table["rows"][0]["delta"], change, "{table}");
        let errors = String::from_utf8(output.stderr).unwrap();
        let mut lines: Vec<&str> = errors.lines().collect();
        lines.sort_unstable();
        let live_lacks = format!("heapsift: {live} has no alloc_objects, alloc_space: left out");
        assert_eq!(lines, [format!("heapsift: {all} has no contentions: left out"), live_lacks]);
        // A column that was asked for has to be there; the file that has none is named.
        for (column, without) in [("alloc_space", &live), ("contentions", &all)] {
            let refused = heapsift(&["diff", "--sample-index", column, words[0], words[1]]);
            let errors = String::from_utf8(refused.stderr).unwrap();
            let common = ["inuse_objects, inuse_space\n", "inuse_space, inuse_objects\n"];
            let start = format!("heapsift: {without}: there is no sample type {column}; all files have ");
            let rest = errors.strip_prefix(&start).unwrap_or_else(|| panic!("{errors}"));
            assert!(refused.status.code() == Some(2) && common.contains(&rest), "{errors}");
        }
    }
    let sum = scratch.join("sum.pb.gz");
    output_of(&["merge", &all, &live, &all, "-o", &sum]);
    assert_eq!(json_of(&["top", "--json", &sum])["rows"], json_of(&["top", "--json", &all, &live, &all])["rows"]);
    // What nothing is known of but the other column is no row.
    let mut builder = service(0);
    let stack = builder.stack(&["waits", "main"]);
    builder.sampled(&stack, 64, 0);
    builder.profile.sample.last_mut().unwrap().value = vec![5, 5, 0, 0];
    let freed = scratch.file("freed.pb.gz", &builder.gzip());
    assert!(!output_of(&["convert", "--to", "folded", &live, &freed]).contains("waits"));
    assert!(!output_of(&["convert", "--to", "raw", &freed, &live]).contains("waits"));

    let other = scratch.file("other.pb.gz", &with_columns(&[], Some("contentions")).gzip());
    let output = heapsift(&["diff", &other, &all]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    let start = format!(
        "heapsift: {other}: it has no sample type in common with what came before it: contentions/count here, "
    );
    assert!(errors.starts_with(&start) && errors.lines().count() == 1, "{errors}");
}

/// Two dumps of a process: `kept` and `lost` samples before, `kept` and `fresh` after, at each site.
fn two_dumps(sites: &[(&str, i64, u32, u32, u32)]) -> [Builder; 2] {
    let [mut base, mut new] = [Builder::new(), Builder::new()];
    for builder in [&mut base, &mut new] {
        builder.mapping("/opt/app/service", 0x40_0000, "0a0b0c0d");
    }
    new.profile.time_nanos += 1_000_000_000;
    for &(name, size, kept, lost, fresh) in sites {
        let stack = base.stack(&[name, "main"]);
        base.born(&stack, size, kept, Some(1));
        if lost > 0 {
            base.born(&stack, size, lost, Some(2));
        }
        let stack = new.stack(&[name, "main"]);
        new.born(&stack, size, kept, Some(1));
        if fresh > 0 {
            new.born(&stack, size, fresh, Some(3));
        }
    }
    [base, new]
}

#[test]
fn dumps_of_one_process_are_compared_by_survivors() {
    let scratch = Scratch::new();
    let sites =
        [("leak", 1024, 900, 3, 40), ("cache", 4096, 200, 0, 0), ("churn", 512, 0, 60, 66), ("big", 64 << 20, 2, 0, 1)];
    let [base, new] = two_dumps(&sites);
    let base = scratch.file("base.pb.gz", &base.gzip());
    let new = scratch.file("new.pb.gz", &new.gzip());
    let table = json_of(&["diff", "--json", &base, &new]);
    assert_eq!(table["compared"], "survivors");
    assert_eq!(table["total"]["survived_samples"], 1102);
    let row = |table: &serde_json::Value, name: &str| {
        table["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone()
    };
    let leak = row(&table, "leak");
    assert_eq!((leak["came"]["samples"].as_u64(), leak["went"]["samples"].as_u64()), (Some(40), Some(3)));
    assert_eq!((leak["significant"].as_bool(), leak["trend"].as_bool()), (Some(true), Some(true)));
    assert!(leak["low"].as_f64().unwrap() > 10e6 && leak["high"].as_f64().unwrap() < 27e6, "{leak}");
    let churn = row(&table, "churn");
    assert_eq!((churn["significant"].as_bool(), churn["trend"].as_bool()), (Some(false), Some(false)));
    // It has certainly come, and tells nothing of what will.
    let big = row(&table, "big");
    assert_eq!((big["significant"].as_bool(), big["trend"].as_bool()), (Some(true), Some(false)));
    // Up to 3.69 periods may have gone unseen.
    assert!((big["high"].as_f64().unwrap() - big["low"].as_f64().unwrap()) < 3.7 * 524_288.0, "{big}");
    assert_eq!(table["rows"].as_array().unwrap().len(), 3, "the cache did not change");
    assert_eq!(table["rows"][0]["name"], "leak", "a trend comes first");

    // As if they were of two processes, 943 samples against 903 say nothing.
    let table = json_of(&["diff", "--json", "--pairing", "independent", &base, &new]);
    assert_eq!(
        (table["compared"].as_str(), row(&table, "leak")["significant"].as_bool()),
        (Some("independent"), Some(false))
    );
    assert!(row(&table, "leak")["churn_p"].is_null());

    // Backwards, what came went.
    let back = json_of(&["diff", "--json", &new, &base]);
    assert_eq!(back["compared"], "survivors");
    assert_eq!(row(&back, "leak")["went"]["samples"], 40);
    assert_eq!(row(&back, "leak")["delta"].as_i64().unwrap(), -leak["delta"].as_i64().unwrap());

    let text = output_of(&["diff", &base, &new]);
    assert!(text.contains("1102 samples in both, 107 came, 63 went"), "{text}");
    let line = text.lines().find(|line| line.ends_with("leak  src/app.c:10")).unwrap();
    assert!(line.contains("*!") && line.contains("903-3+40"), "{text}");
    let line = text.lines().find(|line| line.ends_with("big  src/app.c:10")).unwrap();
    assert!(line.contains("* ") && !line.contains("*!"), "{text}");
}

#[test]
fn survivors_are_not_made_up() {
    let scratch = Scratch::new();
    let [base, new] = two_dumps(&[("leak", 1024, 90, 3, 40)]);
    let base_file = scratch.file("base.pb.gz", &base.gzip());
    // Another process, mapped elsewhere.
    let [_, mut other] = two_dumps(&[("leak", 1024, 90, 3, 40)]);
    other.profile.mapping[0].memory_start += 0x5000;
    other.profile.mapping[0].memory_limit += 0x5000;
    other.profile.location.iter_mut().for_each(|location| location.address += 0x5000);
    // Another, at the same addresses, with more old samples than the base has.
    let [_, stranger] = two_dumps(&[("leak", 1024, 95, 0, 40)]);
    // Another program, and the peak.
    let [_, mut program] = two_dumps(&[("leak", 1024, 90, 3, 40)]);
    program.profile.mapping[0].build_id = program.string("0a0b0c0e");
    let [_, mut peak] = two_dumps(&[("leak", 1024, 90, 3, 40)]);
    let comment = peak.string(pprof_export::writer::PEAK_COMMENT);
    peak.profile.comment.push(comment);
    // One of an allocator that knows no epochs.
    let mut plain = Builder::new();
    let stack = plain.stack(&["leak", "main"]);
    plain.sampled(&stack, 1024, 130);
    let others = [
        (other, "mapped at different addresses"),
        (stranger, "old samples"),
        (program, "two programs"),
        (peak, "of the peak"),
        (plain, "no label epoch"),
    ];
    for (number, (profile, reason)) in others.into_iter().enumerate() {
        let file = scratch.file(&format!("{number}.pb.gz"), &profile.gzip());
        let table = json_of(&["diff", "--json", &base_file, &file]);
        assert_eq!(table["compared"], "independent", "{reason}");
        assert!(table["why_not_survivors"].as_str().unwrap().contains(reason), "{table}");
        let refused = heapsift(&["diff", "--pairing", "survivors", &base_file, &file]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(reason));
    }
    let new = scratch.file("new.pb.gz", &new.gzip());
    assert_eq!(json_of(&["diff", "--json", &base_file, &new])["compared"], "survivors");
}

#[test]
fn groups_are_compared_by_their_means() {
    let scratch = Scratch::new();
    let files = |name: &str, samples: &[u32]| -> Vec<String> {
        samples
            .iter()
            .enumerate()
            .map(|(at, &samples)| {
                let mut builder = service(samples);
                // What differs from run to run by more than sampling explains.
                let steady = builder.stack(&["steady", "main"]);
                builder.sampled(&steady, 16 << 20, 4);
                let wild = builder.stack(&["wild", "main"]);
                builder.sampled(&wild, 16 << 20, 1 + samples % 7);
                scratch.file(&format!("{name}{at}.pb.gz"), &builder.gzip())
            })
            .collect()
    };
    let (old, new) = (files("old", &[37, 41, 43, 39]), files("new", &[158, 165, 161]));
    let mut words = vec!["diff", "--json", "--base"];
    words.extend(old.iter().map(String::as_str));
    words.push("--new");
    words.extend(new.iter().map(String::as_str));
    let table = json_of(&words);
    assert_eq!(table["compared"], "groups");
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(rows[0]["name"], "remember");
    assert_eq!(rows[0]["significant"], true);
    let (base, fresh) = (rows[0]["base_mean"].as_f64().unwrap(), rows[0]["new_mean"].as_f64().unwrap());
    assert!((base / 20.99e6 - 1.0).abs() < 0.01 && (fresh / 84.6e6 - 1.0).abs() < 0.01, "{base} {fresh}");
    let wild = rows.iter().find(|row| row["name"] == "wild").unwrap();
    assert_eq!(wild["significant"], false, "{wild}");
    assert!(rows.iter().all(|row| row["name"] != "steady"));
    // Alone, two of them show a change of `wild` that is certain, and says nothing of the rest.
    let pair = json_of(&["diff", "--json", &old[0], &new[0]]);
    let wild = pair["rows"].as_array().unwrap().iter().find(|row| row["name"] == "wild").unwrap().clone();
    assert_eq!(wild["significant"], true);
}

#[test]
fn a_growth_fails_the_check_only_if_it_is_sure_and_large() {
    let scratch = Scratch::new();
    let base = scratch.file("base.pb.gz", &service(40).gzip());
    let new = scratch.file("new.pb.gz", &service(160).gzip());
    let slightly = scratch.file("slightly.pb.gz", &service(52).gzip());
    let status = |words: &[&str]| heapsift(&[&["diff"], words].concat()).status.code();
    let failed = heapsift(&["diff", "--fail-over", "10MiB", "-n", "1", &base, &new]);
    assert_eq!(failed.status.code(), Some(1));
    let errors = String::from_utf8(failed.stderr).unwrap();
    assert!(errors.starts_with("heapsift: grew by more than 10MB: +60.06MB (95%: "), "{errors}");
    assert_eq!(errors.lines().count(), 1);
    assert!(String::from_utf8(failed.stdout).unwrap().contains("remember"));
    assert_eq!(status(&["--fail-over", "100MiB", &base, &new]), Some(0));
    assert_eq!(status(&["--fail-over", "1MiB", &new, &base]), Some(0), "it shrank");
    // 6 MiB more, and perhaps nothing.
    assert_eq!(status(&["--fail-over", "1MiB", &base, &slightly]), Some(0));
    assert_eq!(status(&["--fail-over", "1MiB", &base, &base]), Some(0));
    for words in [
        &["--fail-over", "x", &base, &new] as &[&str],
        &[&base],
        &[&base, &new, &new],
        &["--base", &base],
        &["--new", &new],
        &["--base", &base, "--new", &new, "--json", "--to", "pprof"],
    ] {
        assert_eq!(status(words), Some(2), "{words:?}");
    }
}

#[test]
fn tables_for_spreadsheets() {
    let scratch = Scratch::new();
    let base = scratch.file("base.pb.gz", &service(40).gzip());
    let new = scratch.file("new.pb.gz", &service(160).gzip());
    let table = output_of(&["diff", "--csv", "--base", &base, "--new", &new]);
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].len(), lines[1].len());
    assert_eq!(&lines[1][..4], ["remember", "src/leak.c", "12", "grown"]);
    assert_eq!(&lines[1][lines[1].len() - 2..], ["40", "160"]);
}
