//! `merge`: many profiles become one file, in memory that does not depend on how many they are.
//!
//! Files are added one after the other. Rows of equal stack and labels become one row whenever there are twice as many
//! as the last time, so that the sum grows only with what is new in a file, and no row is looked at again and again.

use pprof_export::{AllocatorStats, ClassTotal};

use super::progress::Progress;
use super::{args, load, tell};
use crate::error::{Error, Result};
use crate::formats::write;
use crate::input::{self, Input};
use crate::model::{Builder, Side};
use crate::output;

/// Rows of which none are made one yet: some tens of megabytes.
const LOOSE_ROWS: usize = 100_000;

/// `merge`.
pub fn merge(arguments: &args::Merge) -> Result<()> {
    let files = load::files(&arguments.files)?;
    let limits = arguments.reading.limits();
    let mut progress = Progress::new(files.len());
    let mut exact = Exact::default();
    let mut builder = Builder::new();
    let (mut most_rows, mut deep) = (LOOSE_ROWS, 0);
    let (mut paths, mut gone) = (Vec::new(), load::Gone::new(&arguments.files));
    load::in_turn(
        &files,
        &mut gone,
        |path| input::read_within(path, &limits),
        |Input { path, message, rows }| {
            exact.add(message.allocator_stats.as_ref());
            deep += rows.deeper_than(limits.depth);
            builder.add(&message, rows, Side::New).map_err(|reason| Error::input(&path, reason))?;
            if builder.row_count() > most_rows {
                builder.condense(&arguments.drop_label);
                most_rows = LOOSE_ROWS.max(2 * builder.row_count());
            }
            paths.push(path);
            progress.step();
            Ok(())
        },
    )?;
    drop(progress);
    gone.finish(files.len())?;
    builder.condense(&arguments.drop_label);
    let mut profile = builder.finish();
    load::tell_left_out(&profile, &paths);
    if let Some(line) = load::cut(deep, &limits) {
        tell(&line);
    }
    profile.renumber(false);
    // Counts of single files mean nothing for the sum.
    profile.comments.retain(|comment| !comment.starts_with("samples "));
    profile.comments.push(format!("sum of {} files", paths.len()));
    profile.allocator = exact.sum();
    if exact.without > 0 && exact.with > 0 {
        tell(&format!("{} of {} files have no numbers of the allocator: the sum has none", exact.without, paths.len()));
    }
    output::profile_to_path(&arguments.target.output, &pprof_export::encode_gzip(&write::message::message(&profile)))
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
