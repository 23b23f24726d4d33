//! A pprof message in the making: texts, addresses and functions once each, everything counted against
//! the limits.

use hashbrown::HashMap;
use pprof_export::reader::Limits;
use pprof_export::schema::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

use super::lines::Fault;

/// The name of the frame that stands for a cut root end, as in pprof files.
const TRUNCATED: &str = "[truncated stack]";
/// The name of the frame of a row without a stack.
const NO_STACK: &str = "[unknown stack]";

/// The columns of a heap profile.
pub const HEAP: [(&str, &str); 4] =
    [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];

/// A message in the making.
pub struct Table {
    pub profile: Profile,
    strings: HashMap<Box<str>, i64>,
    /// By mapping and address.
    locations: HashMap<(u64, u64), u64>,
    /// By name, file and line.
    functions: HashMap<(i64, i64), u64>,
    /// By function and line.
    named: HashMap<(u64, i64), u64>,
    limits: Limits,
    bytes_left: u64,
}

impl Table {
    /// A message with these columns, the last one shown by default.
    pub fn new(columns: &[(&str, &str)], limits: &Limits) -> Result<Self, Fault> {
        let mut table = Self {
            profile: Profile::default(),
            strings: HashMap::new(),
            locations: HashMap::new(),
            functions: HashMap::new(),
            named: HashMap::new(),
            limits: *limits,
            bytes_left: limits.memory_bytes,
        };
        table.string("")?;
        for (kind, unit) in columns {
            let (kind, unit) = (table.string(kind)?, table.string(unit)?);
            table.profile.sample_type.push(ValueType { r#type: kind, unit });
            table.profile.default_sample_type = kind;
        }
        Ok(table)
    }

    /// Counts memory that is taken for what the file says.
    pub fn charge(&mut self, bytes: usize) -> Result<(), Fault> {
        match self.bytes_left.checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes_left = left;
                Ok(())
            }
            None => Err(Fault::Limit { what: "bytes in memory", flag: "memory", limit: self.limits.memory_bytes }),
        }
    }

    /// Index of a text, which is cut where it is too long.
    pub fn string(&mut self, text: &str) -> Result<i64, Fault> {
        let cut = text.floor_char_boundary(self.limits.name_bytes);
        if cut < text.len() {
            return self.intern(&format!("{}…", &text[..cut]));
        }
        self.intern(text)
    }

    fn intern(&mut self, text: &str) -> Result<i64, Fault> {
        if let Some(&known) = self.strings.get(text) {
            return Ok(known);
        }
        if self.strings.len() as u64 >= self.limits.strings {
            return Err(Fault::Limit { what: "strings", flag: "strings", limit: self.limits.strings });
        }
        // In the table and as the map's key, with the blocks' own cost.
        self.charge(2 * text.len() + 112)?;
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.into(), index);
        Ok(index)
    }

    /// What the period counts, and the period.
    pub fn period(&mut self, period: i64) -> Result<(), Fault> {
        let (kind, unit) = (self.string("space")?, self.string("bytes")?);
        self.profile.period_type = Some(ValueType { r#type: kind, unit });
        self.profile.period = period;
        Ok(())
    }

    /// Adds a mapping; its id.
    pub fn mapping(&mut self, mapping: Mapping) -> Result<u64, Fault> {
        self.charge(size_of::<Mapping>())?;
        let id = self.profile.mapping.len() as u64 + 1;
        self.profile.mapping.push(Mapping { id, ..mapping });
        Ok(id)
    }

    /// The location of an address in a mapping, 0 for none.
    pub fn address(&mut self, mapping: u64, address: u64) -> Result<u64, Fault> {
        if let Some(&known) = self.locations.get(&(mapping, address)) {
            return Ok(known);
        }
        let id = self.location(Location { mapping_id: mapping, address, ..Location::default() })?;
        self.locations.insert((mapping, address), id);
        Ok(id)
    }

    /// A function, by name and file.
    pub fn function(&mut self, name: &str, file: &str) -> Result<u64, Fault> {
        let key = (self.string(name)?, self.string(file)?);
        if let Some(&known) = self.functions.get(&key) {
            return Ok(known);
        }
        self.charge(size_of::<Function>() + 48)?;
        let id = self.profile.function.len() as u64 + 1;
        self.profile.function.push(Function { id, name: key.0, system_name: key.0, filename: key.1, start_line: 0 });
        self.functions.insert(key, id);
        Ok(id)
    }

    /// The location of a function that has no address.
    pub fn named(&mut self, function: u64) -> Result<u64, Fault> {
        if let Some(&known) = self.named.get(&(function, 0)) {
            return Ok(known);
        }
        let line = Line { function_id: function, ..Line::default() };
        let id = self.location(Location { line: vec![line], ..Location::default() })?;
        self.named.insert((function, 0), id);
        Ok(id)
    }

    /// Adds a location that is like no other one; its id.
    pub fn location(&mut self, location: Location) -> Result<u64, Fault> {
        self.charge(size_of::<Location>() + 2 * size_of::<Line>() * location.line.len() + 80)?;
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, ..location });
        Ok(id)
    }

    /// A text label.
    pub fn label(&mut self, key: &str, text: &str) -> Result<Label, Fault> {
        Ok(Label { key: self.string(key)?, str: self.string(text)?, ..Label::default() })
    }

    /// A label of so many bytes.
    pub fn bytes_label(&mut self, bytes: i64) -> Result<Label, Fault> {
        let key = self.string("bytes")?;
        Ok(Label { key, num: bytes, num_unit: key, str: 0 })
    }

    /// Adds a row. A stack that is too deep loses its root end; one without frames gets one that says
    /// so. A row of zeros is left out.
    pub fn row(&mut self, stack: &[u64], values: &[i64], labels: &[Label]) -> Result<(), Fault> {
        if values.iter().all(|&value| value == 0) {
            return Ok(());
        }
        if self.profile.sample.len() as u64 >= self.limits.samples {
            return Err(Fault::Limit { what: "samples", flag: "samples", limit: self.limits.samples });
        }
        let kept = stack.len().min(self.limits.depth);
        let mut location_id = stack[..kept].to_vec();
        let marker = match (kept < stack.len(), stack.is_empty()) {
            (true, _) => Some(TRUNCATED),
            (_, true) => Some(NO_STACK),
            _ => None,
        };
        if let Some(marker) = marker {
            let function = self.function(marker, "")?;
            location_id.push(self.named(function)?);
        }
        self.charge(size_of::<Sample>() + 8 * (location_id.len() + values.len()) + size_of_val(labels) + 3 * 16)?;
        self.profile.sample.push(Sample { location_id, value: values.to_vec(), label: labels.to_vec() });
        Ok(())
    }
}
