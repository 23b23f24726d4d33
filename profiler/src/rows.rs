//! What all kinds of dumps have in common: the head of the file, and the labels of a row.

use core::sync::atomic::Ordering;

use alloc_core::message::{Decimal, until_zero};
use alloc_core::sys::{self, extra};
use pprof_export::unsample::Estimator;
use pprof_export::writer::{Header, Label, LabelSet, LabelValue, Sink, SinkError, Writer};

use crate::buckets::{BucketId, Origin, Origins};
use crate::maps;
use crate::names::Name;
use crate::ordered::Ordered;
use crate::profiler::Profiler;
use crate::settings::Path;

/// Starts a file: header, mappings, and the comments that every dump has.
pub fn begin<S: Sink>(sink: S, header: &Header<'_>, profiler: &Profiler) -> Result<Writer<S>, SinkError> {
    let mut writer = Writer::new(sink, header)?;
    let unknown = maps::executable(|mapping| writer.mapping(mapping))?;
    writer.comment(concat!("heapsift ", env!("CARGO_PKG_VERSION")).as_bytes())?;
    match unknown {
        maps::Unknown::All => {
            writer.comment(b"without /proc/self/maps nobody can tell which files the addresses are of")?
        }
        maps::Unknown::Replaced(modules) => {
            for module in &modules {
                let mut line =
                    Path::from_const(b"unloaded, and another library in its place, whose names its addresses get: ");
                line.push(module.path());
                writer.comment(line.as_bytes())?;
            }
        }
    }
    comment(&mut writer, b"mean bytes between samples: ", header.period as u64)?;
    comment(&mut writer, b"samples taken: ", profiler.buckets.taken())?;
    for (text, number) in [
        (&b"samples with a stack cut short: "[..], profiler.incomplete.load(Ordering::Relaxed)),
        (b"samples with a stack for which there was no room: ", profiler.stacks.dropped() + profiler.buckets.dropped()),
        (b"samples for which there was no memory: ", profiler.records.dropped()),
    ] {
        if number > 0 {
            comment(&mut writer, text, number)?;
        }
    }
    note_perf_map(&mut writer)?;
    Ok(writer)
}

/// Says where a just-in-time compiler has left the names of its functions, if one has.
fn note_perf_map<S: Sink>(writer: &mut Writer<S>) -> Result<(), SinkError> {
    let mut path = Path::from_const(b"/tmp/perf-");
    let complete = path.push(Decimal::new(sys::getpid() as u64).as_bytes()) && path.push(b".map");
    if complete
        && extra::stat_at(extra::AT_FDCWD, path.as_c_str()).is_ok_and(|stat| stat.kind() == extra::kind::REGULAR)
    {
        let mut line = Path::from_const(b"perf map: ");
        line.push(path.as_bytes());
        writer.comment(line.as_bytes())?;
    }
    Ok(())
}

/// A line of text and a number.
pub fn comment<S: Sink>(writer: &mut Writer<S>, text: &[u8], number: u64) -> Result<(), SinkError> {
    let mut line = [0; 100];
    let number = Decimal::new(number);
    let mut used = 0;
    for part in [text, number.as_bytes()] {
        let n = part.len().min(line.len() - used);
        line[used..used + n].copy_from_slice(&part[..n]);
        used += n;
    }
    writer.comment(&line[..used])
}

/// Writes a row for each item, which is samples of one origin; items stand sorted by stack. `place` says which stack and
/// which origin an item has, `estimate` adds labels of its own and says what the samples stand for: objects and bytes.
pub fn write_estimates<S: Sink, T>(
    writer: &mut Writer<S>,
    file_period: u64,
    stacks: &Ordered,
    origins: &Origins,
    items: impl Iterator<Item = T>,
    place: impl Fn(&T) -> (u32, BucketId),
    estimate: impl Fn(&T, &Origin, &mut Labels<'static>, &mut Estimator) -> (i64, i64),
) -> Result<(), SinkError> {
    let mut estimator = Estimator::new();
    let mut label_set = LabelSet::NONE;
    let mut current = None;
    for item in items {
        let (stack, bucket) = place(&item);
        if current != Some(stack) {
            current = Some(stack);
            estimator.next_stack();
        }
        let origin = origins.get(bucket);
        let mut labels = Labels::new(&origin, file_period);
        let (objects, bytes) = estimate(&item, &origin, &mut labels, &mut estimator);
        writer.labels(labels.as_slice(), &mut label_set)?;
        let stack = stacks.get(stack as usize, writer)?;
        writer.row(stack.ids, stack.root.as_slice(), &[objects, bytes], &label_set)?;
    }
    Ok(())
}

/// Most labels of a row.
const LABELS_MAX: usize = 8;

/// The labels of a row.
#[derive(Debug)]
pub struct Labels<'a> {
    all: [Label<'a>; LABELS_MAX],
    used: usize,
}

impl<'a> Labels<'a> {
    /// The size of the row's blocks and, where it isn't the file's, the interval at which they were sampled.
    pub fn new(origin: &Origin, file_period: u64) -> Self {
        let bytes = Label { key: "bytes", value: LabelValue::Number { value: origin.usable as i64, unit: "bytes" } };
        let mut labels = Labels { all: [bytes; LABELS_MAX], used: 1 };
        if origin.period != file_period {
            labels.number("period", origin.period, "bytes");
        }
        labels
    }

    fn push(&mut self, label: Label<'a>) {
        if let Some(place) = self.all.get_mut(self.used) {
            *place = label;
            self.used += 1;
        }
    }

    /// Adds a number.
    pub fn number(&mut self, key: &'a str, value: u64, unit: &'a str) {
        self.push(Label { key, value: LabelValue::Number { value: value as i64, unit } });
    }

    /// Adds a text, unless it is empty.
    pub fn text(&mut self, key: &'a str, text: &'a [u8]) {
        if !text.is_empty() {
            self.push(Label { key, value: LabelValue::Text(text) });
        }
    }

    /// Adds the name of a thread.
    pub fn thread(&mut self, name: &'a Name) {
        self.text("thread", until_zero(name));
    }

    /// All of them.
    pub fn as_slice(&self) -> &[Label<'a>] {
        &self.all[..self.used]
    }
}
