//! `merge`: many profiles become one file, in memory that does not depend on how many they are.
//!
//! Files are summed a few at a time: what has been summed so far is one more profile among the next few. Rows of equal
//! stack and labels are one row, so that the sum grows only with what is new in a file.

use std::path::{Path, PathBuf};

use pprof_export::{AllocatorStats, ClassTotal};

use super::{args, tell};
use crate::error::{Error, Result};
use crate::formats::write;
use crate::input::{self, Input};
use crate::model::{Builder, Profile, Side};
use crate::{output, run};

/// Files that are in memory at once, beside the sum.
const AT_ONCE: usize = 8;

/// `merge`.
pub fn merge(arguments: &args::Merge) -> Result<()> {
    let files = files(&arguments.files)?;
    let limits = arguments.reading.limits();
    let mut sum: Option<Profile> = None;
    let mut exact = Exact::default();
    for some in files.chunks(AT_ONCE) {
        let mut builder = Builder::new();
        let mut add = |path: &Path, Input { message, rows, .. }: Input| {
            builder.add(&message, rows, Side::New).map_err(|reason| Error::input(path, reason))
        };
        if let Some(sum) = sum.take() {
            let so_far = Path::new("the sum so far");
            add(so_far, Input::new(so_far.to_owned(), write::message::message(&sum))?)?;
        }
        for path in some {
            let input = input::read_within(path, &limits)?;
            exact.add(input.message.allocator_stats.as_ref());
            add(path, input)?;
        }
        let mut profile = builder.finish();
        profile.settle_labels(&arguments.drop_label);
        profile.merge_rows(false);
        profile.renumber();
        sum = Some(profile);
    }
    // There is at least one file.
    let Some(mut profile) = sum else { return Ok(()) };
    // Counts of single files mean nothing for the sum.
    profile.comments.retain(|comment| !comment.starts_with("samples "));
    profile.comments.push(format!("sum of {} files", files.len()));
    profile.allocator = exact.sum();
    if exact.without > 0 && exact.with > 0 {
        tell(&format!(
            "{} of {} files have no numbers of the allocator: the sum has none",
            exact.without,
            files.len()
        ));
    }
    output::to_path(&arguments.output, &pprof_export::encode_gzip(&write::message::message(&profile)))
}

/// The files meant; of a directory all dumps in it.
fn files(given: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in given {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        files.extend(run::some_dumps_in(path)?.into_iter().map(|dump| dump.path));
    }
    Ok(files)
}

/// The allocators' own numbers, which add up as the estimates do, if all files have them.
#[derive(Default)]
struct Exact {
    sum: AllocatorStats,
    with: usize,
    without: usize,
}

impl Exact {
    fn add(&mut self, stats: Option<&AllocatorStats>) {
        let Some(stats) = stats else {
            self.without += 1;
            return;
        };
        self.with += 1;
        let sum = &mut self.sum;
        for (sum, value) in [
            (&mut sum.allocated, stats.allocated),
            (&mut sum.active, stats.active),
            (&mut sum.metadata, stats.metadata),
            (&mut sum.resident, stats.resident),
            (&mut sum.mapped, stats.mapped),
            (&mut sum.retained, stats.retained),
            (&mut sum.tcache, stats.tcache),
            (&mut sum.dirty, stats.dirty),
            (&mut sum.muzzy, stats.muzzy),
            (&mut sum.rss, stats.rss),
            (&mut sum.pss, stats.pss),
        ] {
            *sum = sum.saturating_add(value);
        }
        for class in &stats.classes {
            match sum.classes.iter_mut().find(|known| known.size == class.size) {
                Some(known) => add_class(known, class),
                None => sum.classes.push(*class),
            }
        }
    }

    /// The sum. The peaks of several processes were at several moments, and have none.
    fn sum(&self) -> Option<AllocatorStats> {
        let mut sum = self.sum.clone();
        // Blocks above the largest small class, size 0, come last.
        sum.classes.sort_by_key(|class| class.size.wrapping_sub(1));
        (self.without == 0 && self.with > 0).then_some(sum)
    }
}

fn add_class(known: &mut ClassTotal, class: &ClassTotal) {
    for (sum, value) in [
        (&mut known.blocks, class.blocks),
        (&mut known.bytes, class.bytes),
        (&mut known.active, class.active),
        (&mut known.tcache, class.tcache),
    ] {
        *sum = sum.saturating_add(value);
    }
}
