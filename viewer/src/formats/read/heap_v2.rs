//! Jemalloc's heap profiles (`heap_v2/<period>`): stacks with counts for all threads together and for
//! each, then the memory map.
//!
//! The numbers are neither sampled nor true ones: jemalloc prints what jeprof's formula makes right
//! ([`super::scale`]). Since that formula bends, it is applied to the line of all threads, as jeprof
//! does, and the threads share the result.

use hashbrown::HashMap;
use pprof_export::reader::{Limits, Source};

use super::lines::{Fault, Lines, decimal, hexadecimal, shown, words};
use super::maps;
use super::scale::{Estimate, apportion, estimate};
use super::table::{HEAP, Table};

const FORMAT: &str = "jemalloc profile";

/// Functions of jemalloc and of what calls it, by name, for programs that contain it rather than load
/// it: these frames are not the program's.
const DROP: &str = "(_?rjem_|__)?(je_)?(malloc|calloc|realloc|memalign|posix_memalign|aligned_alloc|\
valloc|pvalloc|mallocx|rallocx|xallocx|reallocarray|malloc_default|calloc_default|realloc_default)|\
(_?rjem_)?(je_)?(prof_backtrace|prof_alloc_prep|prof_tctx_create|prof_lookup|imalloc|ialloc|iralloc|\
do_rallocx|do_realloc|malloc_slow|fallback)[a-z_]*|(newImpl|handleOOM|fallbackNewImpl).*|\
operator new(\\[\\])?|__rust_(alloc|realloc|alloc_zeroed)|__r[gd]l_(alloc|realloc|alloc_zeroed)|\
alloc::alloc::(alloc|realloc|alloc_zeroed|exchange_malloc|Global.*)|<alloc::alloc::Global as .*";

/// Memory of a thread's name, beside its text.
const NAME_BYTES: usize = 96;
/// Memory of a further thread's part of a stack, until its row is made.
const THREAD_BYTES: usize = 160;

/// In use, then allocated: objects and bytes as printed.
type Counts = [u64; 4];

fn fault(field: &'static str, reason: impl Into<String>) -> Fault {
    Fault::Field { format: FORMAT, field, reason: reason.into() }
}

/// A stack with its counts.
#[derive(Default)]
struct Stack {
    /// Locations, leaf first.
    locations: Vec<u64>,
    all: Option<Counts>,
    threads: Vec<(u64, Counts)>,
}

/// Reads a whole profile.
pub fn read<S: Source>(lines: &mut Lines<S>, limits: &Limits) -> Result<pprof_export::schema::Profile, Fault> {
    let header = lines.next()?.unwrap_or_default();
    let period = header.strip_prefix(b"heap_v2/").unwrap_or_default().trim_ascii();
    let Some(period) = decimal(period).filter(|&period| period > 0 && period <= i64::MAX as u64) else {
        return Err(fault("period", format!("{} is no number of bytes", shown(period))));
    };
    let mut reader = Reader {
        // Without prof_accum nothing is known of what was allocated; that shows in the first line.
        table: Table::new(&HEAP, limits)?,
        period,
        names: HashMap::new(),
        has_allocated: false,
    };
    reader.table.period(period as i64)?;
    let mut stack: Option<Stack> = None;
    let mut has_map = false;
    while let Some(line) = lines.next()? {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if maps::is_start(line) {
            has_map = true;
            break;
        }
        if let Some(addresses) = line.strip_prefix(b"@") {
            if let Some(done) = stack.take() {
                reader.finish(&done)?;
            }
            stack = Some(reader.stack(addresses)?);
            continue;
        }
        let (thread, counts, rest) = counts(line)?;
        match (&mut stack, thread) {
            (None, Some(uid)) => {
                let name = String::from_utf8_lossy(rest.trim_ascii()).into_owned();
                reader.table.charge(name.len() + NAME_BYTES)?;
                reader.names.insert(uid, name);
            }
            (None, None) => {}
            (Some(stack), Some(uid)) => {
                if !stack.threads.is_empty() {
                    reader.table.charge(THREAD_BYTES)?;
                }
                stack.threads.push((uid, counts));
            }
            (Some(stack), None) => stack.all = Some(counts),
        }
    }
    if !has_map {
        return Err(fault("MAPPED_LIBRARIES", "it is missing: the file was cut"));
    }
    if let Some(done) = stack.take() {
        reader.finish(&done)?;
    }
    let Reader { mut table, has_allocated, .. } = reader;
    maps::read(lines, &mut table, FORMAT)?;
    maps::cut_allocator(&mut table);
    table.profile.drop_frames = table.string(DROP)?;
    if !has_allocated {
        forget_allocated(&mut table);
    }
    Ok(table.profile)
}

/// Leaves the two columns of allocated blocks out, which hold nothing but zeros.
fn forget_allocated(table: &mut Table) {
    table.profile.sample_type.drain(..2);
    for sample in &mut table.profile.sample {
        sample.value.drain(..2);
    }
}

struct Reader {
    table: Table,
    period: u64,
    names: HashMap<u64, String>,
    has_allocated: bool,
}

impl Reader {
    fn stack(&mut self, addresses: &[u8]) -> Result<Stack, Fault> {
        let mut stack = Stack::default();
        for word in words(addresses) {
            let address = hexadecimal(word).ok_or_else(|| fault("stack", format!("{} is no address", shown(word))))?;
            // All are return addresses; the call lies before.
            stack.locations.push(self.table.address(0, address.saturating_sub(1))?);
        }
        Ok(stack)
    }

    /// Makes rows of a stack: one for each thread, which together are the estimate of all.
    fn finish(&mut self, stack: &Stack) -> Result<(), Fault> {
        let sum = |counts: &[(u64, Counts)]| {
            counts.iter().fold([0u64; 4], |mut sum, (_, counts)| {
                for (sum, count) in sum.iter_mut().zip(counts) {
                    *sum = sum.saturating_add(*count);
                }
                sum
            })
        };
        let all = stack.all.unwrap_or_else(|| sum(&stack.threads));
        self.has_allocated |= all[2] != 0 || all[3] != 0;
        let total = self.columns(&all);
        if stack.threads.is_empty() {
            let values = total.map(|value| value.round() as i64);
            return self.table.row(&stack.locations, &values, &[]);
        }
        let shares: Vec<[f64; 4]> = stack.threads.iter().map(|(_, c)| self.columns(c)).collect();
        let columns: Vec<Vec<i64>> = (0..4)
            .map(|column| {
                let shares: Vec<f64> = shares.iter().map(|share| share[column]).collect();
                apportion(total[column], &shares)
            })
            .collect();
        for (index, (uid, _)) in stack.threads.iter().enumerate() {
            let name = match self.names.get(uid) {
                Some(name) if !name.is_empty() => name.clone(),
                _ => format!("t{uid}"),
            };
            let label = self.table.label("thread", &name)?;
            let values: Vec<i64> = columns.iter().map(|column| column[index]).collect();
            self.table.row(&stack.locations, &values, &[label])?;
        }
        Ok(())
    }

    /// Estimates in the order of the columns: allocated, then in use.
    fn columns(&self, counts: &Counts) -> [f64; 4] {
        let Estimate { objects, bytes } = estimate(counts[0], counts[1], self.period);
        let allocated = estimate(counts[2], counts[3], self.period);
        [allocated.objects, allocated.bytes, objects, bytes]
    }
}

/// `t*: 1: 2 [3: 4] rest` or `t7: …`: the thread, `None` for all; its counts; what follows.
fn counts(line: &[u8]) -> Result<(Option<u64>, Counts, &[u8]), Fault> {
    let wrong = || fault("counts", format!("{} is neither a stack nor a thread's counts", shown(line)));
    let rest = line.strip_prefix(b"t").ok_or_else(wrong)?;
    let colon = rest.iter().position(|&byte| byte == b':').ok_or_else(wrong)?;
    let thread = match &rest[..colon] {
        b"*" => None,
        uid => Some(decimal(uid).ok_or_else(wrong)?),
    };
    let close = rest.iter().position(|&byte| byte == b']').ok_or_else(wrong)?;
    let counts = super::gperftools::four(rest.get(colon + 1..close).ok_or_else(wrong)?);
    Ok((thread, counts.ok_or_else(wrong)?, &rest[close + 1..]))
}
