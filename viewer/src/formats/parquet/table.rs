//! One Parquet file, written a row group at a time: cells are kept in memory until there are enough of them.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// A whole number.
    Integer,
    /// Microseconds since 1970, UTC.
    Time,
    /// A floating-point number.
    Real,
    /// True or false.
    Flag,
}

/// A column that holds one value a row, or none where it is `optional`.
pub fn field(name: &str, kind: Kind, optional: bool) -> TypePtr {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Integer => (Physical::INT64, None),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        Kind::Real => (Physical::DOUBLE, None),
        Kind::Flag => (Physical::BOOLEAN, None),
    };
    let repetition = if optional { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    let field =
        Type::primitive_type_builder(name, physical).with_logical_type(logical).with_repetition(repetition).build();
    Arc::new(field.expect("the type fits what is stored"))
}

/// A group of fields.
pub fn group(name: &str, repetition: Repetition, logical: Option<LogicalType>, fields: Vec<TypePtr>) -> TypePtr {
    // Readers of before 2018 know the old names of lists and maps only.
    let old = match &logical {
        Some(LogicalType::List) => ConvertedType::LIST,
        Some(LogicalType::Map) => ConvertedType::MAP,
        _ => ConvertedType::NONE,
    };
    let group = Type::group_type_builder(name)
        .with_repetition(repetition)
        .with_logical_type(logical)
        .with_converted_type(old)
        .with_fields(fields)
        .build();
    Arc::new(group.expect("its parts are valid types"))
}

/// Cells of one column: values, and the levels that say which cells are empty and where lists begin.
#[derive(Debug)]
pub struct Cells<T> {
    values: Vec<T>,
    definition: Vec<i16>,
    repetition: Vec<i16>,
    most_defined: i16,
    is_repeated: bool,
}

impl<T> Cells<T> {
    fn new(most_defined: i16, is_repeated: bool) -> Self {
        let (values, definition, repetition) = (Vec::new(), Vec::new(), Vec::new());
        Self { values, definition, repetition, most_defined, is_repeated }
    }

    /// A value, of the next row or, with a `level` above 0, of a list that has begun.
    pub fn push_at(&mut self, level: i16, value: T) {
        self.levels(level, self.most_defined);
        self.values.push(value);
    }

    /// No value; `defined` says how many of the groups around it are there.
    pub fn push_nothing_at(&mut self, level: i16, defined: i16) {
        self.levels(level, defined);
    }

    /// The next row's value, or none.
    pub fn push(&mut self, value: Option<T>) {
        match value {
            Some(value) => self.push_at(0, value),
            None => self.push_nothing_at(0, 0),
        }
    }

    fn levels(&mut self, level: i16, defined: i16) {
        if self.most_defined > 0 {
            self.definition.push(defined);
        }
        if self.is_repeated {
            self.repetition.push(level);
        }
    }

    fn write<D: DataType<T = T>>(&mut self, group: &mut SerializedRowGroupWriter<'_, impl Write + Send>) -> Result<()> {
        let Some(mut column) = group.next_column()? else { return Ok(()) };
        let definition = (self.most_defined > 0).then_some(self.definition.as_slice());
        let repetition = self.is_repeated.then_some(self.repetition.as_slice());
        column.typed::<D>().write_batch(&self.values, definition, repetition)?;
        self.values.clear();
        self.definition.clear();
        self.repetition.clear();
        column.close()
    }
}

/// A leaf column of any kind.
#[derive(Debug)]
enum Column {
    Text(Cells<ByteArray>),
    Integer(Cells<i64>),
    Real(Cells<f64>),
    Flag(Cells<bool>),
}

/// A file that is being written, and the cells of its next row group.
pub struct Table<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Vec<Column>,
    rows: u64,
}

impl<W: Write + Send> Table<W> {
    /// A table of these fields, to `out`.
    ///
    /// # Errors
    /// `out` can't be written.
    pub fn new(name: &str, fields: Vec<TypePtr>, out: W) -> Result<Self> {
        let schema = Type::group_type_builder(name).with_fields(fields).build()?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("heapsift version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::SNAPPY)
            // Stack ids and names repeat in any order; as much as this may be looked up.
            .set_dictionary_page_size_limit(8 << 20)
            // What is kept until the file ends must not grow with its pages.
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        let columns = writer.schema_descr().columns().iter().map(|leaf| {
            let (defined, is_repeated) = (leaf.max_def_level(), leaf.max_rep_level() > 0);
            match leaf.physical_type() {
                Physical::BYTE_ARRAY => Column::Text(Cells::new(defined, is_repeated)),
                Physical::DOUBLE => Column::Real(Cells::new(defined, is_repeated)),
                Physical::BOOLEAN => Column::Flag(Cells::new(defined, is_repeated)),
                _ => Column::Integer(Cells::new(defined, is_repeated)),
            }
        });
        let columns = columns.collect();
        Ok(Self { columns, rows: 0, writer })
    }

    /// The text column at this position among the leaves.
    pub fn text(&mut self, at: usize) -> &mut Cells<ByteArray> {
        match &mut self.columns[at] {
            Column::Text(cells) => cells,
            other => unreachable!("column {at} holds no text: {other:?}"),
        }
    }

    /// The column of whole numbers or times at this position.
    pub fn integer(&mut self, at: usize) -> &mut Cells<i64> {
        match &mut self.columns[at] {
            Column::Integer(cells) => cells,
            other => unreachable!("column {at} holds no whole numbers: {other:?}"),
        }
    }

    /// The column of floating-point numbers at this position.
    pub fn real(&mut self, at: usize) -> &mut Cells<f64> {
        match &mut self.columns[at] {
            Column::Real(cells) => cells,
            other => unreachable!("column {at} holds no real numbers: {other:?}"),
        }
    }

    /// The column of flags at this position.
    pub fn flag(&mut self, at: usize) -> &mut Cells<bool> {
        match &mut self.columns[at] {
            Column::Flag(cells) => cells,
            other => unreachable!("column {at} holds no flags: {other:?}"),
        }
    }

    /// Writes the row group of all cells so far, which are those of `rows` more rows.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn flush(&mut self, rows: u64) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        self.rows += rows;
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            match column {
                Column::Text(cells) => cells.write::<ByteArrayType>(&mut group)?,
                Column::Integer(cells) => cells.write::<Int64Type>(&mut group)?,
                Column::Real(cells) => cells.write::<DoubleType>(&mut group)?,
                Column::Flag(cells) => cells.write::<BoolType>(&mut group)?,
            }
        }
        group.close()?;
        Ok(())
    }

    /// Ends the file and gives back where it was written to, and how many rows it has.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn finish(self) -> Result<(W, u64)> {
        Ok((self.writer.into_inner()?, self.rows))
    }
}
