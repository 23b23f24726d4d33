//! Which columns a profile of several files has: those that all of them have.

use super::{Profile, ValueType};

/// A column that some files have, and others don't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    /// The column.
    pub column: ValueType,
    /// The first of the files, by its number, that doesn't have it.
    pub source: usize,
}

impl Profile {
    /// Takes a further file's columns into account: leaves those out that it doesn't have. Returns, for each column that is
    /// left, the file's.
    ///
    /// # Errors
    /// None is left.
    pub(super) fn common_columns(&mut self, types: &[ValueType]) -> Result<Vec<usize>, String> {
        let in_both: Vec<(usize, usize)> = self
            .sample_types
            .iter()
            .enumerate()
            .filter_map(|(at, wanted)| Some((at, types.iter().position(|t| t == wanted)?)))
            .collect();
        let (kept, columns): (Vec<usize>, Vec<usize>) = in_both.into_iter().unzip();
        if kept.is_empty() {
            let names = |types: &[ValueType]| {
                let names: Vec<String> = types.iter().map(|t| format!("{}/{}", t.kind, t.unit)).collect();
                names.join(", ")
            };
            return Err(format!(
                "it has no sample type in common with what came before it: {} here, {} there",
                names(types),
                names(&self.sample_types)
            ));
        }
        let source = self.sources.len();
        let gone = self.sample_types.iter().filter(|wanted| !types.contains(wanted));
        let mut lacking: Vec<Lacking> = gone.map(|column| Lacking { column: column.clone(), source }).collect();
        for column in types {
            // What isn't there, and hasn't been lost, the first one never had.
            let is_known = self.sample_types.contains(column) || self.lacking.iter().any(|lost| lost.column == *column);
            if !is_known {
                lacking.push(Lacking { column: column.clone(), source: 0 });
            }
        }
        self.lacking.append(&mut lacking);
        if kept.len() < self.sample_types.len() {
            self.keep_columns(&kept);
        }
        Ok(columns)
    }

    fn keep_columns(&mut self, kept: &[usize]) {
        let width = self.sample_types.len();
        self.values = self.values.chunks_exact(width).flat_map(|row| kept.iter().map(|&at| row[at])).collect();
        self.sample_types = kept.iter().map(|&at| self.sample_types[at].clone()).collect();
        match kept.iter().position(|&at| at == self.default_type) {
            Some(default) => self.default_type = default,
            // As in a file that names none.
            None => (self.default_type, self.default_type_name) = (kept.len() - 1, String::new()),
        }
        self.retain_rows(|profile, row| {
            let is_anything = profile.values(row).iter().any(|&value| value != 0);
            is_anything.then(|| 0..profile.stack(row).len())
        });
    }

    /// The file, by its number, for want of which there is no column of this name; the first, if none has one.
    pub fn source_without(&self, asked: &str) -> usize {
        let is_asked = |kind: &str| kind == asked || kind.strip_prefix("inuse_") == Some(asked);
        self.lacking.iter().find(|lost| is_asked(&lost.column.kind)).map_or(0, |lost| lost.source)
    }

    /// For each file that lacks columns that others have, its number and their names.
    pub fn left_out(&self) -> Vec<(usize, String)> {
        let mut by_source: Vec<(usize, Vec<&str>)> = Vec::new();
        for Lacking { column, source } in &self.lacking {
            match by_source.iter_mut().find(|(known, _)| known == source) {
                Some((_, names)) => names.push(&column.kind),
                None => by_source.push((*source, vec![&column.kind])),
            }
        }
        by_source.into_iter().map(|(source, names)| (source, names.join(", "))).collect()
    }
}
