//! The table of samples: the rows of all profiles, with what is needed to tell how sure a sum of them is.

use std::io::Write;

use parquet::basic::{LogicalType, Repetition};
use parquet::data_type::ByteArray;
use parquet::errors::Result;

use super::stacks::{Id, text_of};
use super::table::{Kind, Table, field, group};
use super::{Origin, Texts};
use crate::model::{Columns, Label, LabelValue, PartCache, Profile, Side, ValueType};

/// Rows in a row group: DuckDB works on as many at a time, and all cells take about 60 MB.
const GROUP_ROWS: u64 = 122_880;

/// Labels that have columns of their own.
const SIZE: &str = "bytes";
const PERIOD: &str = "period";
const THREAD: &str = "thread";
const EPOCH: &str = "epoch";

/// Columns that are there whatever the profiles are, before those that the user adds.
const FIXED: [(&str, Kind, bool); 12] = [
    ("dump", Kind::Text, false),
    ("pid", Kind::Integer, true),
    ("sequence", Kind::Integer, true),
    ("kind", Kind::Text, true),
    ("time", Kind::Time, true),
    ("program", Kind::Text, true),
    ("build_id", Kind::Text, true),
    ("stack_id", Kind::Text, false),
    ("size", Kind::Integer, true),
    ("period", Kind::Integer, true),
    ("thread", Kind::Text, true),
    ("epoch", Kind::Integer, true),
];

/// Positions of the leaf columns among [`FIXED`].
mod at {
    pub const DUMP: usize = 0;
    pub const PID: usize = 1;
    pub const SEQUENCE: usize = 2;
    pub const KIND: usize = 3;
    pub const TIME: usize = 4;
    pub const PROGRAM: usize = 5;
    pub const BUILD_ID: usize = 6;
    pub const STACK_ID: usize = 7;
    pub const SIZE: usize = 8;
    pub const PERIOD: usize = 9;
    pub const THREAD: usize = 10;
    pub const EPOCH: usize = 11;
    /// The keys of labels without a column of their own; their values follow.
    pub const LABELS: usize = 12;
    /// What follows: columns of the user, then of the profiles.
    pub const ADDED: usize = 14;
}

/// Samples and uncertainty of a pair of columns, such as `inuse_objects` and `inuse_space`.
struct Pair {
    space: usize,
    samples: String,
    variance: String,
}

/// The file of samples.
pub struct Samples<W: Write + Send> {
    table: Table<W>,
    types: Vec<ValueType>,
    pairs: Vec<Pair>,
    added: Vec<ByteArray>,
    rows: u64,
}

impl<W: Write + Send> Samples<W> {
    /// An empty table for profiles with the columns of this one, to `out`; `added` are the names and values of columns
    /// of the user.
    ///
    /// # Errors
    /// Two columns have one name, or `out` can't be written; the text says which.
    pub fn new(profile: &Profile, added: &[(String, String)], out: W) -> core::result::Result<Self, String> {
        let types = profile.sample_types.clone();
        let pairs: Vec<Pair> = (0..types.len()).filter_map(|column| Pair::of(profile, column)).collect();
        let mut fields: Vec<_> = FIXED.iter().map(|&(name, kind, optional)| field(name, kind, optional)).collect();
        let pair = vec![field("key", Kind::Text, false), field("value", Kind::Text, false)];
        let pairs_of_map = group("key_value", Repetition::REPEATED, None, pair);
        fields.push(group("labels", Repetition::REQUIRED, Some(LogicalType::Map), vec![pairs_of_map]));
        fields.extend(added.iter().map(|(name, _)| field(name, Kind::Text, false)));
        fields.extend(types.iter().map(|t| field(&t.kind, Kind::Integer, false)));
        for Pair { samples, variance, .. } in &pairs {
            fields.push(field(samples, Kind::Integer, true));
            fields.push(field(variance, Kind::Real, true));
        }
        for (position, field) in fields.iter().enumerate() {
            let name = field.name();
            // Names of columns are the same to SQL whatever the case.
            if fields[..position].iter().any(|other| other.name().eq_ignore_ascii_case(name)) {
                return Err(format!("two columns of the table would be called {name}"));
            }
        }
        let table = Table::new("samples", fields, out).map_err(|error| error.to_string())?;
        let added = added.iter().map(|(_, value)| ByteArray::from(value.as_str())).collect();
        Ok(Self { table, types, pairs, added, rows: 0 })
    }

    /// Where each column of the table is in a profile.
    ///
    /// # Errors
    /// One is not there; the text says which.
    pub fn columns(&self, profile: &Profile) -> core::result::Result<Vec<usize>, String> {
        let find = |wanted: &ValueType| {
            profile.sample_types.iter().position(|t| t == wanted).ok_or_else(|| {
                format!("it has no sample type {}/{}, which the first file has", wanted.kind, wanted.unit)
            })
        };
        self.types.iter().map(find).collect()
    }

    /// Ends the file; gives back where it was written to, and how many rows it has.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn finish(mut self) -> Result<(W, u64)> {
        self.flush()?;
        self.table.finish()
    }

    fn flush(&mut self) -> Result<()> {
        let rows = core::mem::take(&mut self.rows);
        self.table.flush(rows)
    }
}

impl Pair {
    /// The pair whose bytes are in this column.
    fn of(profile: &Profile, space: usize) -> Option<Self> {
        let columns = Columns::new(profile, space);
        columns.objects().filter(|_| columns.is_space())?;
        let name = &profile.sample_types[space].kind;
        let samples = format!("{}samples", name.strip_suffix("space")?);
        Some(Self { space, samples, variance: format!("{name}_variance") })
    }
}

/// Writes the rows of one profile.
pub struct Rows<'a, W: Write + Send> {
    samples: &'a mut Samples<W>,
    profile: &'a Profile,
    columns: Vec<usize>,
    pairs: Vec<Columns>,
    cache: PartCache,
    texts: Texts,
    dump: ByteArray,
    kind: Option<ByteArray>,
    program: Option<ByteArray>,
    build_id: Option<ByteArray>,
    origin: &'a Origin<'a>,
}

impl<'a, W: Write + Send> Rows<'a, W> {
    /// For rows of this profile, which has the table's columns at these places.
    pub fn new(samples: &'a mut Samples<W>, profile: &'a Profile, origin: &'a Origin<'a>, columns: Vec<usize>) -> Self {
        let pairs = samples.pairs.iter().map(|pair| Columns::new(profile, columns[pair.space])).collect();
        let text = |text: &str| (!text.is_empty()).then(|| ByteArray::from(text));
        let main = profile.mappings.first();
        Self {
            columns,
            pairs,
            cache: PartCache::default(),
            texts: Texts::default(),
            dump: ByteArray::from(origin.name),
            kind: origin.kind.map(|kind| ByteArray::from(kind.to_string().as_str())),
            program: main.and_then(|main| text(profile.text(main.file))),
            build_id: main.and_then(|main| text(profile.text(main.build_id))),
            samples,
            profile,
            origin,
        }
    }

    /// Writes a row, whose stack has this id. Rows of a base are subtracted.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn add(&mut self, row: usize, stack: Id) -> Result<()> {
        let Self { samples, profile, origin, .. } = self;
        let profile: &Profile = profile;
        let table = &mut samples.table;
        table.text(at::DUMP).push_at(0, self.dump.clone());
        table.integer(at::PID).push(origin.pid.map(i64::from));
        table.integer(at::SEQUENCE).push(origin.sequence.and_then(|sequence| i64::try_from(sequence).ok()));
        table.text(at::KIND).push(self.kind.clone());
        table.integer(at::TIME).push((profile.time_nanos != 0).then_some(profile.time_nanos / 1000));
        table.text(at::PROGRAM).push(self.program.clone());
        table.text(at::BUILD_ID).push(self.build_id.clone());
        table.text(at::STACK_ID).push_at(0, text_of(stack));
        let labels = RowLabels::of(profile, row);
        table.integer(at::SIZE).push(labels.size);
        table.integer(at::PERIOD).push(labels.period.or((profile.period > 0).then_some(profile.period)));
        table.text(at::THREAD).push(labels.thread.map(|thread| self.texts.get(profile, thread)));
        table.integer(at::EPOCH).push(labels.epoch);
        for (position, label) in labels.others.iter().enumerate() {
            let level = i16::from(position > 0);
            let value = match label.value {
                LabelValue::Text(text) => self.texts.get(profile, text),
                LabelValue::Number(number, _) => ByteArray::from(number.to_string().as_str()),
            };
            table.text(at::LABELS).push_at(level, self.texts.get(profile, label.key));
            table.text(at::LABELS + 1).push_at(level, value);
        }
        if labels.others.is_empty() {
            table.text(at::LABELS).push_nothing_at(0, 0);
            table.text(at::LABELS + 1).push_nothing_at(0, 0);
        }
        for (position, value) in samples.added.iter().enumerate() {
            table.text(at::ADDED + position).push_at(0, value.clone());
        }
        let mut next = at::ADDED + samples.added.len();
        let values = profile.values(row);
        let is_base = profile.side(row) == Side::Base;
        for &column in &self.columns {
            let value = values[column];
            table.integer(next).push_at(0, if is_base { value.saturating_neg() } else { value });
            next += 1;
        }
        for columns in &self.pairs {
            let part = columns.part(profile, row, &mut self.cache);
            table.integer(next).push(part.map(|part| part.samples as i64));
            table.real(next + 1).push(part.map(|part| part.variance));
            next += 2;
        }
        samples.rows += 1;
        if samples.rows >= GROUP_ROWS { samples.flush() } else { Ok(()) }
    }
}

/// The labels of a row: those with columns of their own, and the others.
#[derive(Default)]
struct RowLabels {
    size: Option<i64>,
    period: Option<i64>,
    thread: Option<crate::model::Str>,
    epoch: Option<i64>,
    others: Vec<Label>,
}

impl RowLabels {
    fn of(profile: &Profile, row: usize) -> Self {
        let mut labels = Self::default();
        for label in profile.labels(row) {
            match (profile.text(label.key), label.value) {
                (SIZE, LabelValue::Number(number, _)) => labels.size = Some(number),
                (PERIOD, LabelValue::Number(number, _)) => labels.period = Some(number),
                (EPOCH, LabelValue::Number(number, _)) => labels.epoch = Some(number),
                (THREAD, LabelValue::Text(text)) => labels.thread = Some(text),
                // A map has each key once.
                _ if labels.others.iter().any(|other| other.key == label.key) => {}
                _ => labels.others.push(*label),
            }
        }
        labels
    }
}
