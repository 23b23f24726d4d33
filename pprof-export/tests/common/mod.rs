//! A small heap profile with everything in it that the writer can write.

use pprof_export::writer::{Header, Label, LabelValue, Mapping, Row, Writer};
use pprof_export::{AllocatorStats, ClassTotal};

/// Time of the dump.
pub const TIME: i64 = 1_700_000_000_123_456_789;

/// The allocator's numbers in it.
pub fn stats() -> AllocatorStats {
    let class = |size, blocks| ClassTotal { size, blocks, bytes: 8 * blocks, active: 4096, tcache: 16 };
    AllocatorStats { classes: vec![class(8, 3), class(0, 1)], ..STATS }
}

const STATS: AllocatorStats = AllocatorStats {
    allocated: 1,
    active: 2,
    metadata: 3,
    resident: 4,
    mapped: 5,
    retained: 6,
    tcache: 7,
    dirty: 8,
    muzzy: 0,
    rss: 1 << 40,
    pss: 11,
    classes: Vec::new(),
    allocated_max: 12,
};

/// The file.
pub fn dump() -> Vec<u8> {
    let header = Header { doc_url: "https://example.org/heap", ..Header::heap(512 << 10, TIME) };
    let mut writer = Writer::new(Vec::new(), &header).unwrap();
    writer
        .mapping(&Mapping {
            start: 0x5555_5555_5040,
            limit: 0x5555_5555_7010,
            offset: 0x1040,
            path: b"/usr/bin/app",
            build_id: &[0xab, 0xcd, 0x00, 0x12],
        })
        .unwrap();
    writer
        .mapping(&Mapping {
            start: 0x7fff_0000_0000,
            limit: 0x7fff_0000_2000,
            offset: 0,
            path: b"[vdso]",
            build_id: b"",
        })
        .unwrap();
    let bytes = |value| Label { key: "bytes", value: LabelValue::Number { value, unit: "bytes" } };
    let thread = |name| Label { key: "thread", value: LabelValue::Text(name) };
    let epoch = |value| Label { key: "epoch", value: LabelValue::Number { value, unit: "epoch" } };
    let truncated = writer.virtual_frame(b"[truncated stack]").unwrap();
    for row in [
        Row {
            stack: &[0x5555_5555_6001, 0x5555_5555_6100],
            root: None,
            values: &[1, 64, 0, 0],
            labels: &[bytes(64), thread(b"main")],
        },
        Row {
            stack: &[0x5555_5555_6001, 0x5555_5555_6100],
            root: None,
            values: &[0, 0, 2, 128],
            labels: &[bytes(64), thread(b"w\xffrk"), epoch(3)],
        },
        Row {
            stack: &[0x7fff_0000_0001, 0x5555_5555_6002, 0x5555_5555_6100],
            root: Some(truncated),
            values: &[10, 6400, 0, 0],
            labels: &[bytes(640)],
        },
        Row { stack: &[], root: None, values: &[7, 7, 0, 0], labels: &[] },
        Row { stack: &[1], root: None, values: &[0, 0, 0, 0], labels: &[] },
    ] {
        writer.sample(&row).unwrap();
    }
    writer.comment(b"heapsift 0.1.0").unwrap();
    writer.allocator_stats(&stats()).unwrap();
    writer.finish().unwrap()
}
