//! ELF and DWARF.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, OnceLock};

use heapsift::image::{Image, build_id_note};
use pprof_export::schema::{Location, Mapping, Profile};
use viewer::symbolize::{Options, symbolize};

/// Notes, as a process reads them of its own modules.
pub fn notes(bytes: &[u8]) {
    if let Some(id) = build_id_note(bytes) {
        assert!(id.len() < bytes.len());
        // It lies within.
        assert!(bytes.as_ptr_range().contains(&id.as_ptr()) || id.is_empty());
    }
    const ADDRESS: usize = 0x7000_0000;
    let image = Image::read(ADDRESS, 4096, |at, out| {
        let from = at.checked_sub(ADDRESS).and_then(|offset| bytes.get(offset..)?.get(..out.len()));
        from.map_or(0, |from| {
            out.copy_from_slice(from);
            from.len()
        })
    });
    if let Some(image) = image {
        assert!(image.limit >= image.start && image.build_id().len() <= bytes.len());
    }
}

/// A file without a name, for the bytes to be in.
fn file() -> &'static Mutex<File> {
    static FILE: OnceLock<Mutex<File>> = OnceLock::new();
    FILE.get_or_init(|| Mutex::new(tempfile::tempfile().expect("a scratch file")))
}

/// A binary that a profile says was mapped as it is: names for some addresses in it.
pub fn dwarf(bytes: &[u8]) {
    let file = file().lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    file.set_len(0).and_then(|()| file.write_all_at(bytes, 0)).expect("a scratch file");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let addresses = (0..40u64).map(|n| 0x1000 + n * 52).chain([0, 1, u64::MAX - 1]);
    let location = |(index, address)| Location { id: index as u64 + 1, mapping_id: 1, address, ..Location::default() };
    let mut profile = Profile {
        string_table: vec![String::new(), path],
        mapping: vec![Mapping { id: 1, memory_limit: u64::MAX, filename: 1, ..Mapping::default() }],
        location: addresses.enumerate().map(location).collect(),
        ..Profile::default()
    };
    let report = symbolize(&mut profile, &Options::default());
    let [module] = &report.modules[..] else { panic!("one module: {report}") };
    let named = profile.location.iter().filter(|location| !location.line.is_empty()).count();
    assert_eq!((module.locations, module.named), (43, named));
    for line in profile.location.iter().flat_map(|location| &location.line) {
        let function = profile.function.iter().find(|function| function.id == line.function_id).expect("it is there");
        assert!(!profile.string_table[function.name as usize].is_empty());
    }
}
