//! USDT probes: described in the file, silent until somebody attaches, and then told of each sampled block.

use std::fs;

use heapsift_tests::artifacts::Scratch;
use heapsift_tests::{Program, library, tools};

#[test]
fn the_file_describes_them() {
    let Some(readelf) = tools::need("readelf") else { return };
    let text = Program::new(readelf).arg("-n").arg(library()).run().expect_success().text();
    let probes: Vec<&str> = text.split("Provider: ").skip(1).collect();
    for (name, arguments) in [("alloc", "8@%rdi 8@%rsi 8@%rdx"), ("free", "8@%rdi")] {
        let found: Vec<_> = probes.iter().filter(|probe| probe.contains(&format!("Name: {name}\n"))).collect();
        let [probe] = found[..] else { panic!("{name}: {text}") };
        assert!(probe.starts_with("otel_memory\n") && probe.contains(&format!("Arguments: {arguments}\n")), "{probe}");
        for place in ["Location", "Base", "Semaphore"] {
            let rest = probe.split(&format!("{place}: 0x")).nth(1).expect("an address");
            let digits = rest.split([',', '\n']).next().expect("digits");
            assert!(u64::from_str_radix(digits, 16).is_ok_and(|address| address != 0), "{probe}");
        }
    }
}

#[test]
fn a_debugger_hears_of_sampled_blocks() {
    let Some(gdb) = tools::need("gdb") else { return };
    let scratch = Scratch::new("probes");
    // Stops at the first ten samples, and prints what came with each. The library is there once `main` is.
    let script = format!(
        "set pagination off\nset confirm off\nset startup-with-shell off\n\
         set environment LD_PRELOAD {}\nset environment MALLOC_CONF prof:true,prof_sample:1\n\
         break main\nrun\nbreak -probe-stap otel_memory:alloc\nbreak -probe-stap otel_memory:free\n\
         set $i = 0\nwhile $i < 10\n continue\n printf \"told %lu\\n\", $_probe_argc\n\
         if $_probe_argc == 3\n printf \"alloc %lu %lu %lu\\n\", $_probe_arg0, $_probe_arg1, $_probe_arg2\n end\n\
         set $i = $i + 1\nend\nkill\nquit\n",
        library().display()
    );
    fs::write(scratch.join("script"), script).expect("a scratch file");
    let ended = Program::new(gdb)
        .args(["-nx", "-batch", "-x"])
        .arg(scratch.join("script"))
        .arg("--args")
        .arg(tools::compile("c/steps.c", &[]))
        .args(["small", "100"])
        .env("DEBUGINFOD_URLS", "")
        .run();
    let text = ended.text();
    if ended.complaints().contains("ptrace") || text.contains("ptrace") {
        return tools::missing("permission to trace a process");
    }
    assert_eq!(text.lines().filter(|line| line.starts_with("told ")).count(), 10, "{text}{}", ended.complaints());
    let blocks: Vec<Vec<u64>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("alloc "))
        .map(|line| line.split(' ').map(|word| word.parse().expect("a number")).collect())
        .collect();
    assert!(!blocks.is_empty(), "{text}");
    for block in &blocks {
        // At one byte between samples each stands for itself.
        assert!(block[0] % 8 == 0 && block[1] >= 8 && block[2] == block[1], "{text}");
    }
}
