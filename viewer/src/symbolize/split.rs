//! Split DWARF: what compilers leave beside the objects, in `.dwo` files, or packed for a whole program in one `.dwp`.
//!
//! A binary then holds skeleton units, each with the id of its other half and where that was written. Files are read when
//! the first address of their unit is looked up, by whichever thread does that, and believed only if the id is theirs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use gimli::{DwarfPackage, DwarfPackageSections, DwoId, RunTimeEndian, Section, SectionId, UnitType};
use object::Object;

use super::candidates::Parsed;
use super::find;
use super::meter::{Budget, Meter, Metered};
use super::pieces::Pieces;
use super::sections::{MAX_RATIO, inflated, is_needless, length_of, section};

type Dwarf<'a, 'm> = gimli::Dwarf<Metered<'a, 'm>>;
type Owned = gimli::DwarfSections<Vec<u8>>;
/// A package's sections, inflated where they are compressed.
pub type Package<'f> = DwarfPackageSections<Cow<'f, [u8]>>;
/// A package as one thread reads it.
pub type Packed<'a, 'm> = DwarfPackage<Metered<'a, 'm>>;

/// Skeleton units of one binary that are heeded.
const MAX_UNITS: usize = 1 << 20;
/// Steps that looking for a file counts as.
const LOOKED: u64 = 64;

/// The other halves of a binary's units.
pub struct Split<'a> {
    package: Option<&'a Package<'a>>,
    /// By id; read when they are asked for.
    files: &'a Files,
    endian: RunTimeEndian,
    /// Directories of the user's.
    search: &'a [PathBuf],
    /// Where the binary lies.
    place: Option<&'a Path>,
    budget: &'a Budget,
    /// The first file that was asked for and isn't there.
    missing: OnceLock<PathBuf>,
    /// How many of them there are.
    missing_count: AtomicUsize,
}

/// The `.dwo` files of a binary by id, each once it has been looked for: nothing where it isn't there.
#[derive(Default)]
pub struct Files(HashMap<u64, OnceLock<Option<Owned>>>);

impl Files {
    /// For the skeleton units of this debug information; none where nothing is split.
    pub fn of(dwarf: &Dwarf<'_, '_>) -> Self {
        let mut files = HashMap::new();
        // Before DWARF 5, skeletons look like other units, but only they have addresses in a section of their own.
        let has_addresses = !dwarf.debug_addr.reader().bytes().is_empty();
        let mut units = dwarf.units();
        while let Ok(Some(header)) = units.next() {
            let id = match header.type_() {
                UnitType::Skeleton(id) => Some(id),
                UnitType::Compilation if header.version() < 5 && has_addresses => {
                    dwarf.unit(header).ok().and_then(|unit| unit.dwo_id)
                }
                _ => None,
            };
            files.extend(id.map(|DwoId(id)| (id, OnceLock::new())));
            if files.len() == MAX_UNITS {
                break;
            }
        }
        Self(files)
    }

    /// Whether nothing is split.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where the package of a binary may lie: beside it, or in one of the user's directories.
fn packages(binary: &Path, search: &[PathBuf]) -> Vec<PathBuf> {
    let Some(name) = binary.file_name() else { return Vec::new() };
    let mut package = name.to_owned();
    package.push(".dwp");
    let mut paths: Vec<PathBuf> = search.iter().map(|place| place.join(&package)).collect();
    paths.push(binary.with_file_name(&package));
    // `program.debug` is packed as `program.dwp`.
    paths.push(binary.with_extension("dwp"));
    paths
}

/// The sections of a package; none of a file that is no package.
pub fn package<'f>(object: &Parsed<'f>, file: u64) -> Option<Package<'f>> {
    object.section_by_name(".debug_cu_index")?;
    let mut left = inflated(file);
    // All of them: what names nothing has its ranges in the index too.
    Package::load(|id| load(object, id, &mut left).map_err(|_| gimli::Error::Io)).ok()
}

/// A section by the name that it has in such files.
fn load<'f>(object: &Parsed<'f>, id: SectionId, left: &mut u64) -> Result<Cow<'f, [u8]>, String> {
    id.dwo_name().map_or(Ok(Cow::Borrowed(&[][..])), |name| section(object, name, left))
}

/// Opens the first package that is there.
pub fn open_package(binaries: &[&Path], search: &[PathBuf]) -> Option<Pieces> {
    let mut paths = binaries.iter().flat_map(|binary| packages(binary, search));
    paths.find_map(|path| find::open(&path).ok()).map(Pieces::new)
}

impl<'a> Split<'a> {
    /// The halves that lie in a package, if there is one, or in files.
    pub fn new(
        package: Option<&'a Package<'a>>,
        files: &'a Files,
        little: bool,
        search: &'a [PathBuf],
        place: Option<&'a Path>,
        budget: &'a Budget,
    ) -> Self {
        Self {
            package,
            files,
            endian: if little { RunTimeEndian::Little } else { RunTimeEndian::Big },
            search,
            place,
            budget,
            missing: OnceLock::new(),
            missing_count: AtomicUsize::new(0),
        }
    }

    /// What to say of files that aren't there.
    pub fn complaint(&self) -> Option<String> {
        let path = self.missing.get()?;
        let more = match self.missing_count.load(Ordering::Relaxed) {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Some(format!("its debug information is split, and there is no {}{more}", path.display()))
    }

    /// The package as a thread with this meter sees it.
    pub fn packed<'m>(&self, meter: &'m Meter<'m>) -> Option<Packed<'a, 'm>> {
        let reader = |section: &'a Cow<'_, [u8]>| Metered::new(section, self.endian, meter);
        self.package?.borrow(reader, Metered::new(&[], self.endian, meter)).ok()
    }

    /// The sections of a unit's other half: its id, and the directory and name of the file that it was written to.
    pub fn half<'m>(
        &self,
        parent: &Dwarf<'a, 'm>,
        packed: Option<&Packed<'a, 'm>>,
        id: DwoId,
        (directory, name): (Option<Metered<'a, 'm>>, Option<Metered<'a, 'm>>),
        meter: &'m Meter<'m>,
    ) -> Option<Dwarf<'a, 'm>> {
        if let Some(mut dwarf) = packed.and_then(|package| package.find_cu(id, parent).ok()?) {
            dwarf.sup.clone_from(&parent.sup);
            return Some(dwarf);
        }
        let text = |piece: Metered<'a, 'm>| PathBuf::from(OsStr::from_bytes(piece.bytes()));
        let own = directory.map(text).unwrap_or_default().join(text(name?));
        let files: &'a Files = self.files;
        let sections = files.0.get(&id.0)?.get_or_init(|| {
            let found = self.paths(&own).into_iter().find_map(|path| self.read(&path, id, meter));
            if found.is_none() {
                self.missing_count.fetch_add(1, Ordering::Relaxed);
                let _ = self.missing.set(own.clone());
            }
            found
        });
        let mut dwarf = self.dwarf(sections.as_ref()?, meter);
        dwarf.make_dwo(parent);
        Some(dwarf)
    }

    fn dwarf<'s, 'm>(&self, sections: &'s Owned, meter: &'m Meter<'m>) -> Dwarf<'s, 'm> {
        sections.borrow(|section| Metered::new(section, self.endian, meter))
    }

    /// Where a file may be that was written to `own`.
    fn paths(&self, own: &Path) -> Vec<PathBuf> {
        let relative: PathBuf = own.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let name = relative.file_name().map(PathBuf::from).unwrap_or_default();
        let mut paths: Vec<PathBuf> =
            self.search.iter().flat_map(|place| [place.join(&relative), place.join(&name)]).collect();
        if own.is_absolute() {
            paths.push(own.to_owned());
        }
        paths.extend(self.place.and_then(Path::parent).map(|place| place.join(&name)));
        paths
    }

    /// Reads a file if it is the one with this id.
    fn read(&self, path: &Path, id: DwoId, meter: &Meter<'_>) -> Option<Owned> {
        meter.charge(LOOKED).ok()?;
        let file = find::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let cache = Pieces::new(file);
        let object = object::File::parse(&cache).ok()?;
        // There may be thousands: none is granted more than its length.
        let mut left = length.saturating_mul(MAX_RATIO);
        let sections = Owned::load(|id| match is_needless(id) {
            true => Ok(Vec::new()),
            false => load(&object, id, &mut left).map(Cow::into_owned),
        });
        let sections = sections.ok()?;
        let found = {
            let meter = Meter::new(self.budget);
            let mut dwarf = self.dwarf(&sections, &meter);
            dwarf.file_type = gimli::DwarfFileType::Dwo;
            let header = dwarf.units().next().ok()??;
            match header.type_() {
                UnitType::SplitCompilation(id) => Some(id),
                _ => dwarf.unit(header).ok()?.dwo_id,
            }
        };
        // What is read of it is granted as what is read of the binary.
        (found == Some(id)).then(|| {
            self.budget.add(length_of(&sections));
            sections
        })
    }
}
