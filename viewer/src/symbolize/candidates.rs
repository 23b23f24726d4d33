//! Which of the files that may be a module's are opened and believed: its binary, its debug file, the part that several
//! debug files share. A file with another build id is refused.

use std::path::{Path, PathBuf};

use object::Object;

use super::Options;
use super::find::{self, Wanted};
use super::pieces::Pieces;

/// A file that is read.
pub type Parsed<'a> = object::File<'a, &'a Pieces>;

/// Why a file is not looked for at its own path.
const GONE: &str = "the file was removed or replaced while it was in use, and has no build id to know it by";

/// A file that was opened and believed.
pub struct Candidate {
    pub path: PathBuf,
    pub cache: Pieces,
}

impl Candidate {
    /// What is in it; nothing that can't be read as ELF.
    pub fn parsed(&self) -> Option<Parsed<'_>> {
        object::File::parse(&self.cache).ok()
    }

    pub fn length(&self) -> u64 {
        self.cache.length()
    }
}

/// The files of a module.
pub struct Located {
    /// What was mapped.
    pub binary: Option<Candidate>,
    /// The file with its debug information, where the binary has none.
    pub debug: Option<Candidate>,
    /// Why servers that were asked for one have none.
    pub fetched: Option<String>,
}

/// Looks for the files of a module. What is refused is told with the reason.
pub fn locate(wanted: &Wanted, options: &Options, refused: &mut Vec<String>) -> Located {
    let binary = first(wanted, &wanted.binaries(&options.search), None, refused);
    let object = binary.as_ref().and_then(Candidate::parsed);
    if object.as_ref().is_some_and(has_debug_info) {
        drop(object);
        return Located { binary, debug: None, fetched: None };
    }
    let link = object.as_ref().and_then(|object| object.gnu_debuglink().ok()?);
    let name = link.map(|(name, _)| PathBuf::from(String::from_utf8_lossy(name).into_owned()));
    let crc = link.map(|(_, crc)| crc);
    // Where the mapping has no build id, the binary found has.
    let mut wanted = wanted.clone();
    wanted.is_gone &= binary.is_none();
    if let Some(id) = object.as_ref().and_then(build_id)
        && wanted.build_id.is_empty()
    {
        wanted.build_id = id;
    }
    drop(object);
    let paths = wanted.debug_files(&options.search, name.as_deref());
    let (mut debug, mut fetched) = (first(&wanted, &paths, crc, refused), None);
    if debug.is_none() && !wanted.build_id.is_empty() && !options.servers.is_empty() {
        let check = |path: &Path| match first(&wanted, &[path.to_owned()], None, &mut Vec::new()) {
            Some(_) => Ok(()),
            None => Err(format!("what it sends is no file with build id {}", wanted.build_id)),
        };
        match options.servers.debug_file(&wanted.build_id, check) {
            Ok(path) => debug = first(&wanted, &[path], None, refused),
            Err(reason) => fetched = Some(reason),
        }
    }
    Located { binary, debug, fetched }
}

/// The first of the files that is an ELF file and the right one.
fn first(wanted: &Wanted, paths: &[PathBuf], crc: Option<u32>, refused: &mut Vec<String>) -> Option<Candidate> {
    for path in paths {
        let Ok(mut file) = find::open(path) else { continue };
        let sum = crc.and_then(|_| find::checksum(&mut file).ok());
        let cache = Pieces::new(file);
        let verdict = match object::File::parse(&cache) {
            Err(_) => continue,
            Ok(object) => match build_id(&object) {
                Some(id) if wanted.build_id.is_empty() || id == wanted.build_id => Ok(()),
                Some(id) => Err(format!("build id is {id}, not {}", wanted.build_id)),
                // A debug file without build id is known by its checksum, a binary by its path.
                None if crc.is_some() && sum != crc => Err("checksum differs".to_owned()),
                None if !wanted.build_id.is_empty() => Err("it has no build id".to_owned()),
                None => Ok(()),
            },
        };
        match verdict {
            Ok(()) => return Some(Candidate { path: path.clone(), cache }),
            Err(reason) => refused.push(format!("{}: {reason}", path.display())),
        }
    }
    None
}

/// The file that dwz moved common parts of several debug files to.
pub fn shared_part(object: &Parsed<'_>, file: &Path, search: &[PathBuf]) -> Option<Candidate> {
    let (name, id) = object.gnu_debugaltlink().ok()??;
    let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let wanted = Wanted::new("", &id);
    if wanted.build_id.is_empty() {
        return None;
    }
    let name = PathBuf::from(String::from_utf8_lossy(name).into_owned());
    first(&wanted, &find::shared_parts(file, &name, &id, search), None, &mut Vec::new())
}

/// Why there is no file.
pub fn missing(wanted: &Wanted, refused: &[String]) -> String {
    match refused.first() {
        Some(refused) => refused.clone(),
        None if wanted.is_gone => GONE.to_owned(),
        None if wanted.build_id.is_empty() => "no such file".to_owned(),
        None => format!("no file with build id {}", wanted.build_id),
    }
}

fn build_id(object: &Parsed<'_>) -> Option<String> {
    let id = object.build_id().ok()??;
    Some(id.iter().take(64).map(|byte| format!("{byte:02x}")).collect())
}

pub fn has_debug_info(object: &Parsed<'_>) -> bool {
    object.section_by_name(".debug_info").is_some()
}
