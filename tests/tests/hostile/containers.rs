//! Files that are broken before their content is reached, and those that never end.

use crate::Case;
use crate::wire::{gzip, gzip_of_zeros, small, zstd_of};

const MIB: u64 = 1 << 20;

/// All of them.
pub fn cases(cases: &mut Vec<Case>) {
    let mut refused = |name: &str, part: &'static str, bytes: Vec<u8>| {
        cases.push(Case::refused(&format!("container-{name}"), part, move || bytes.clone()));
    };
    refused("empty", "empty", Vec::new());
    for (name, byte) in [("zero", 0), ("space", b' '), ("ff", 0xff), ("newline", b'\n'), ("tag", 0x0a)] {
        refused(&format!("one-{name}"), "", vec![byte]);
        refused(&format!("many-{name}"), "", vec![byte; 100_000]);
    }
    for (name, start) in [
        ("elf", &b"\x7fELF\x02\x01\x01\0"[..]),
        ("zip", b"PK\x03\x04"),
        ("perf", b"PERFILE2"),
        ("png", b"\x89PNG\r\n\x1a\n"),
        ("xz", b"\xfd7zXZ\0"),
        ("html", b"<html><script>alert(1)</script>"),
        ("json", b"{\"a\":[[[[[["),
        ("bom", b"\xef\xbb\xbfheap_v2/524288\n"),
    ] {
        refused(&format!("foreign-{name}"), "not a profile", start.to_vec());
        refused(&format!("foreign-{name}-long"), "not a profile", [start, &[0; 5000][..]].concat());
        refused(&format!("foreign-{name}-packed"), "not a profile", gzip(start));
    }

    // What could be fields of a message is taken for one.
    refused("foreign-nul", "byte", b"heap_v2\0/1\n".to_vec());
    refused("foreign-utf16", "byte", b"h\0e\0a\0p\0_\0v\x002\0/\0".to_vec());

    let whole = gzip(&small().0);
    let changed = |at: usize, byte: u8| {
        let mut file = whole.clone();
        file[at] = byte;
        file
    };
    refused("gzip-method", "compression method", changed(2, 7));
    refused("gzip-flags", "flags", changed(3, 0xff));
    refused("gzip-name-without-end", "header", [&[0x1f, 0x8b, 8, 8][..], &[b'x'; 500_000]].concat());
    refused("gzip-extra-beyond", "header", [&[0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0, 0xff, 0xff][..], b"xy"].concat());
    refused("gzip-checksum", "checksum", changed(whole.len() - 8, whole[whole.len() - 8] ^ 1));
    refused("gzip-length", "checksum", changed(whole.len() - 1, 0x7f));
    refused("gzip-data", "byte", changed(10, 0xff));
    refused("gzip-trailing", "after its end", [&whole[..], b"more"].concat());
    refused("gzip-half-a-member", "byte", [&whole[..], &whole[..20]].concat());
    refused("gzip-of-gzip", "gzip file within a gzip file", gzip(&whole));
    refused("gzip-of-nothing", "empty", gzip(b""));
    refused("gzip-members-of-nothing", "more than 65536 members", gzip(b"").repeat(300_000));
    let mut nested = small().0;
    for _ in 0..50 {
        nested = gzip(&nested);
    }
    refused("gzip-nested", "gzip file within a gzip file", nested);
    refused("gzip-bomb", "times its size when inflated", gzip_of_zeros(2048 * MIB));
    refused("gzip-bomb-in-members", "times its size when inflated", gzip_of_zeros(64 * MIB).repeat(20));
    refused("gzip-bomb-small", "not a profile", gzip_of_zeros(15 * MIB));
    refused("gzip-bomb-of-text", "byte", {
        let mut line = b"main;".repeat(20_000);
        line.extend_from_slice(b"work 1\n");
        gzip(&line.repeat(2000))
    });

    refused("zstd-magic", "zstd", vec![0x28, 0xb5, 0x2f, 0xfd]);
    refused("zstd-reserved", "zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 0x08, 0, 0, 0, 0]);
    refused("zstd-bomb", "times its size when inflated", zstd_of(0, 100_000));
    refused("zstd-bomb-of-lines", "times its size when inflated", zstd_of(b'\n', 20_000));
    refused("zstd-block-type", "zstd", [&zstd_of(0, 1)[..6], &[0b111, 0, 0]].concat());
    refused("zstd-cut", "zstd", zstd_of(0, 4)[..15].to_vec());
    // The largest window that the header can ask for, 3.75 TiB.
    refused("zstd-window", "zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xff, 1, 0, 0]);
    refused("zstd-dictionary", "zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 3, 0x38, 1, 2, 3, 4, 1, 0, 0]);
    refused("zstd-frames-of-nothing", "empty", [0x28, 0xb5, 0x2f, 0xfd, 0, 0x38, 1, 0, 0].repeat(200_000));
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff][..], &[0; 100]].concat();
    refused("zstd-skippable", "byte", skipped);
}
