//! Inputs to begin with, and the words that inputs of a kind are made of.

use pprof_export::encode_gzip;
use pprof_export::reader::{Limits, inflate};
use pprof_export::schema::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub const OPTIONS: &[&str] = &[
    "prof:",
    "true",
    "false",
    ",",
    ":",
    "narenas:",
    "lg_tcache_max:",
    "dirty_decay_ms:",
    "-1",
    "-2",
    "0x10",
    "1e9",
    "4GiB",
    "slab_sizes:",
    "bin_shards:",
    "1-160:16|129-512:2",
    "tcache_ncached_max:",
    "percpu_arena:",
    "phycpu",
    "stats_print_opts:",
    "junk:",
    "alloc",
    "zero_realloc:",
    "abort",
    "oversize_threshold:",
    "confirm_conf:true",
    "18446744073709551616",
    "san_guard_small:",
    "experimental_",
    "metadata_thp:",
    "always",
    "dss:",
    "primary",
    "thp:",
    "hpa:",
    "lg_extent_max_active_fit:",
];

pub fn malloc_conf() -> Vec<Vec<u8>> {
    texts(&[
        "",
        "narenas:4,dirty_decay_ms:5000,muzzy_decay_ms:-1",
        "slab_sizes:1-160:4|161-1024:8,bin_shards:1-160:16|129-512:2",
        "tcache_ncached_max:8-128:50|200-500:10,lg_tcache_max:16",
        "confirm_conf:true,junk:alloc,zero:true,zero_realloc:free,oversize_threshold:8388608",
        "stats_print:true,stats_print_opts:mdablxe,percpu_arena:phycpu,dss:primary",
        "narenas:,:,narenas",
    ])
}

pub const NAMES: &[&str] = &[
    "get ",
    "set ",
    "stats",
    "stats.",
    "arenas.",
    "arena.",
    "0",
    "4096",
    "4095",
    ".dirty_decay_ms",
    "opt.",
    "narenas",
    "thread.",
    "tcache.",
    "create",
    "flush",
    "prof.",
    "active",
    "bins.",
    "bin.",
    "lextents.",
    "mutexes.",
    "total_wait_time",
    "name",
    "purge",
    "decay",
    "reset",
    "destroy",
    "true",
    "false",
    "-1",
    "metrics",
    "help",
    "enable ",
    "disable",
    "dump ",
    "heap",
    "epoch",
    "config.",
    "version",
    "experimental.",
    "\r",
    "\n",
    "\0",
    " ",
];

pub fn mallctl() -> Vec<Vec<u8>> {
    texts(&[
        "version",
        "epoch 1",
        "stats.allocated",
        "arena.0.dirty_decay_ms 5000",
        "arenas.bin.3.size",
        "stats.arenas.0.bins.3.nmalloc",
        "opt.narenas",
        "thread.allocatedp",
        "arenas.narenas",
        "prof.active true",
        "arena.4096.purge",
        "arenas.create",
        "stats.mutexes.ctl.num_ops",
        "arena.0.name some name",
        "tcache.create",
        "config.fill",
        "experimental.utilization.query",
    ])
}

pub fn control() -> Vec<Vec<u8>> {
    texts(&[
        "get version\n",
        "set arena.0.dirty_decay_ms 5000\n",
        "dump heap\n",
        "dump waste\n",
        "stats J\n",
        "metrics\n",
        "enable 65536\n",
        "help\n",
        "reset\n",
        "get opt.prof_prefix\r\n",
        "nonsense\n",
        "get version",
        "\n",
        "",
    ])
}

pub const HTTP: &[&str] = &[
    "GET ",
    "POST ",
    "HEAD ",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "Host: localhost\r\n",
    "Host: evil\r\n",
    "\r\n",
    "/debug/pprof/",
    "heap",
    "allocs",
    "symbol",
    "/metrics",
    "?symbolize=none",
    "..",
    "%2e%2e",
    "%00",
    "Content-Length: ",
    "Transfer-Encoding: chunked\r\n",
    "Authorization: Basic ",
    "Origin: http://evil\r\n",
    "Connection: close\r\n",
    "0x1234+0x5678",
    "Expect: 100-continue\r\n",
];

pub fn http() -> Vec<Vec<u8>> {
    texts(&[
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n",
        "GET /debug/pprof/heap?symbolize=none HTTP/1.0\r\n\r\n",
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 6\r\n\r\n0x1234",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n",
        "GET /1/debug/pprof/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic eDp5\r\n\r\n",
    ])
}

pub const TEXT: &[&str] = &[
    "heap_v2/",
    "524288",
    "\n",
    "@ ",
    "0x401001",
    " 0xffffffffffffffff",
    "  t*: ",
    "t0: ",
    "2: 512 [0: 0]",
    "18446744073709551615",
    "\nMAPPED_LIBRARIES:\n",
    "00400000-00402000 r-xp 00001000 fe:00 11  /opt/app/server\n",
    "heap profile: ",
    "@ heapprofile\n",
    "heapz_v2/1",
    "growth",
    "s 4 grow\n",
    "i 401000 1 1\n",
    "t 1 0\n",
    "a 10 1\n",
    "+ 0\n",
    "- 0\n",
    "m 1 x ",
    "build=/x\n",
    "ffffffff600000-ffffffff601000 --xp",
    "[vdso]",
    " (deleted)",
    ";",
    " 1\n",
];

pub fn heap_v2() -> Vec<Vec<u8>> {
    texts(&["heap_v2/524288\n  t*: 3: 2097664 [0: 0]\n  t0: 2: 1048832 [0: 0] main\n  t1: 1: 1048832 [0: 0]\n\
        @ 0x7f0000001001 0x401001 0x401101\n  t*: 2: 512 [5: 900]\n  t0: 1: 256 [0: 0]\n  t1: 1: 256 [0: 0]\n\
        @ 0x401201\n  t*: 1: 1048576 [0: 0]\n  t0: 1: 1048576 [0: 0]\n\nMAPPED_LIBRARIES:\n\
        00400000-00402000 r-xp 00001000 fe:00 11  /opt/app/my server\n\
        7f0000000000-7f0000002000 r-xp 00000000 fe:00 12  /usr/lib/libjemalloc.so.2\n"])
}

pub fn gperftools() -> Vec<Vec<u8>> {
    let text = "heap profile:      3:     1536 [     5:     2560] @ heapprofile\n     2:     1024 [     4:     2048] @ 0x401001 0x401101\n\
        1:      512 [     1:      512] @ 0x401201\n\nMAPPED_LIBRARIES:\n00400000-00402000 r-xp 00000000 fe:00 11  /opt/app/server\n";
    let folded = "main;serve;grow 100\nmain;[u8: 8] -5\n\nmain 7\n";
    texts(&[text, &text.replace("heapprofile", "heap_v2/524288"), &text.replace("heapprofile", "heap/1048576"), folded])
}

pub fn heaptrack() -> Vec<Vec<u8>> {
    texts(&[
        "v 10400 3\nX ./server\nI 1000 5e298d\ns f /opt/app/server\ns 4 grow\ns 5 serve\ns 6 main.c\ni 401000 1 2 4 1e 3 4 28\n\
         i 7f00 1\nt 1 0\nt 2 1\na 64 2\n+ 0\n+ 0\n- 0\na 10 1\n+ 1\nc 7d0\n",
        "v 10400 3\nx f /opt/app/server\nX ./server\nm 1 -\nm 1 x 5500 0 1000 2000 800\nt 5601 0\nt 7601 1\nt ffff 0\n\
         + 64 2 1000\n+ 64 2 2000\n- 1000\n- 9\n+ 8 3 10\n",
    ])
}

pub fn maps() -> Vec<Vec<u8>> {
    texts(&[
        "00400000-00402000 r-xp 00001000 fe:00 11  /opt/app/my server (deleted)\n7ffd1000-7ffd2000 r-xp 00000000 00:00 0  [vdso]\n",
        "0x400000-0x500000: /bin/x (@f00)\nbuild=/x\n$build/y: 600000-700000 r-xp 0 0:0 0 /z\n",
    ])
}

pub fn names() -> Vec<Vec<u8>> {
    texts(&[
        "main\nserve\nVec<T>::push",
        "</text><script>alert(1)</script>\n\" onload=\"alert(1)\n]]>\n&amp;\n'",
        "a\u{202e}b\n\u{0}\n\t\n ",
    ])
}

pub const MARKUP: &[&str] = &[
    "<",
    ">",
    "\"",
    "'",
    "&",
    "&lt;",
    "&#39;",
    "</script>",
    "<!--",
    "]]>",
    "<svg onload=alert(1)>",
    "\u{2028}",
    "\u{202e}",
    "\n",
    " (",
    ")",
    ";",
    "\\u003c",
    "{{",
    "@DATA@",
    "@NONCE@",
    "%",
    "$",
    "000000001",
    "\u{fffe}",
];

pub fn operations() -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    [64, 512, 4096].map(|length| (0..length).map(|_| byte()).collect()).to_vec()
}

/// A small profile, plain: with a checksum behind it, no change would be read.
pub fn pprof() -> Vec<Vec<u8>> {
    let line = Line { function_id: 1, line: 3, column: 0 };
    let profile = Profile {
        string_table: ["", "space", "bytes", "f", "thread", "main"].map(String::from).to_vec(),
        sample_type: vec![ValueType { r#type: 1, unit: 2 }],
        sample: vec![Sample {
            location_id: vec![1, 2],
            value: vec![5],
            label: vec![Label { key: 2, num: 8, num_unit: 2, str: 0 }, Label { key: 4, str: 5, ..Label::default() }],
        }],
        mapping: vec![Mapping { id: 1, memory_start: 0x1000, memory_limit: 0x3000, filename: 3, ..Mapping::default() }],
        location: vec![
            Location { id: 1, mapping_id: 1, address: 0x1234, line: vec![line, line], is_folded: false },
            Location { id: 2, mapping_id: 1, address: 0x2234, ..Location::default() },
        ],
        function: vec![Function { id: 1, name: 3, system_name: 3, filename: 0, start_line: 0 }],
        period: 524_288,
        period_type: Some(ValueType { r#type: 1, unit: 2 }),
        ..Profile::default()
    };
    let plain = inflate(&encode_gzip(&profile), &Limits::DEFAULT).expect("the profile is in order");
    vec![plain]
}

fn words(words: &[u32], rest: &[u8]) -> Vec<u8> {
    [words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>(), rest.to_vec()].concat()
}

pub fn notes() -> Vec<Vec<u8>> {
    let one = words(&[4, 5, 1], b"GNU\0abcde\0\0\0");
    let id = words(&[4, 20, 3], b"GNU\0aaaaaaaaaaaaaaaaaaaa");
    vec![id.clone(), [one, id.clone()].concat(), image(&id)]
}

/// The first page of a module in memory: header, two segments and the notes.
fn image(notes: &[u8]) -> Vec<u8> {
    let segment = |kind: u32, flags: u32, address: u64, bytes: u64| {
        let numbers = [address, address, address, bytes, bytes, 4096];
        [words(&[kind, flags], &[]), numbers.iter().flat_map(|n| n.to_le_bytes()).collect()].concat()
    };
    let header = [&b"\x7fELF\x02\x01\x01"[..], &[0; 25], &64u64.to_le_bytes(), &[0; 16], &3u16.to_le_bytes(), &[0; 6]];
    let (load, note) = (1, 4);
    let table = [segment(load, 4, 0, 4096), segment(load, 5, 4096, 4096), segment(note, 4, 232, notes.len() as u64)];
    [header.concat(), table.concat(), notes.to_vec()].concat()
}

/// A small ELF file with a function in its debug information.
pub fn dwarf() -> Vec<Vec<u8>> {
    let abbreviations = [
        1, 0x11, 1, 0x11, 1, 0x12, 7, 0, 0, 2, 0x2e, 1, 3, 8, 0x11, 1, 0x12, 7, 0, 0, 3, 0x1d, 0, 0x31, 0x13, 0x11, 1,
        0x12, 7, 0, 0, 0,
    ];
    let mut entries = vec![1];
    let range = |low: u64, length: u64| [low.to_le_bytes(), length.to_le_bytes()].concat();
    entries.extend(range(0x1000, 0x2000));
    entries.extend([&[2][..], b"function\0", &range(0x1000, 0x800)].concat());
    entries.extend([&[3][..], &28u32.to_le_bytes(), &range(0x1100, 0x80), &[0, 0]].concat());
    let info = [words(&[entries.len() as u32 + 7], &4u16.to_le_bytes()), vec![0, 0, 0, 0, 8], entries].concat();
    let names = b"\0.debug_abbrev\0.debug_info\0.shstrtab\0";
    let sections: [(u32, u32, &[u8]); 3] = [(1, 1, &abbreviations), (15, 1, &info), (27, 3, names)];
    let mut file = vec![0; 120];
    let mut headers = vec![0; 64];
    for (name, kind, data) in sections {
        let long = |value: u64| value.to_le_bytes();
        let header = [
            words(&[name, kind], b""),
            [long(0), long(0), long(file.len() as u64), long(data.len() as u64)].concat(),
            vec![0; 24],
        ];
        headers.extend(header.concat());
        file.extend_from_slice(data);
    }
    let table = file.len() as u64;
    file.extend_from_slice(&headers);
    let length = file.len() as u64;
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, 2u16), (18, 62), (52, 64), (54, 56), (56, 1), (58, 64), (60, 4), (62, 3)] {
        file[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    for (at, value) in [(20, 1), (32, 64), (40, table), (64, 1 | 5 << 32), (96, length), (104, length)] {
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    vec![file]
}
