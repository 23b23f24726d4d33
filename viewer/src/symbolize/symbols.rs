//! Functions of ELF symbol tables, for what debug information has no name for.

use std::sync::Arc;

use hashbrown::HashMap;
use object::{Object, ObjectSymbol, ObjectSymbolTable, ReadRef, SymbolIndex, SymbolKind};

use super::candidates::Parsed;
use super::code::Code;
use super::demangle::cut;
use super::mini;

/// Labels of a table whose names are looked at: reading a name takes its time.
const MAX_LABELS: usize = 1 << 16;

/// Which of a file's two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    All,
    Dynamic,
}

/// What a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Function,
    /// A place in the code that nothing more is said of: a function, if it was written in assembly.
    Label,
}

/// A function.
#[derive(Clone, Debug)]
struct Symbol {
    start: u64,
    /// 0: unknown.
    size: u64,
    name: Arc<str>,
}

/// Functions of a file's symbol tables, as far as addresses ask for them.
#[derive(Debug)]
pub struct Symbols<'b> {
    addresses: &'b [u64],
    /// For each address the function that begins last, of those that don't begin after it.
    functions: Vec<Option<Symbol>>,
    /// The same of labels.
    labels: Vec<Option<Symbol>>,
    is_empty: bool,
}

impl<'b> Symbols<'b> {
    /// Those of a file that these sorted addresses may lie in: of its symbol table or, if it is stripped, of the dynamic one
    /// and of what is left of the other.
    pub fn of(object: &Parsed<'_>, addresses: &'b [u64]) -> Self {
        let none = vec![None; addresses.len()];
        let mut symbols = Self { addresses, functions: none.clone(), labels: none, is_empty: true };
        symbols.add(object, Table::All);
        if symbols.is_empty {
            symbols.add(object, Table::Dynamic);
            let rest = mini::file(object);
            if let Some(rest) = rest.as_deref().and_then(|rest| object::File::parse(rest).ok()) {
                symbols.add(&rest, Table::All);
            }
        }
        // What is best for an address may be best for those that follow.
        for last in [&mut symbols.functions, &mut symbols.labels] {
            for at in 1..last.len() {
                if last[at].is_none() {
                    last[at] = last[at - 1].clone();
                }
            }
        }
        symbols
    }

    fn add<'d, R: ReadRef<'d>>(&mut self, object: &object::File<'d, R>, which: Table) {
        let (symbols, table) = match which {
            Table::All => (object.symbols(), object.symbol_table()),
            Table::Dynamic => (object.dynamic_symbols(), object.dynamic_symbol_table()),
        };
        let code = Code::of(object);
        let mut last: HashMap<(Kind, usize), (u64, u64, usize)> = HashMap::new();
        let mut labels = 0..MAX_LABELS;
        for symbol in symbols {
            let kind = match symbol.kind() {
                SymbolKind::Text if !symbol.is_undefined() => Kind::Function,
                SymbolKind::Unknown if symbol.section_index().is_some() && code.holds(symbol.address()) => Kind::Label,
                _ => continue,
            };
            self.is_empty &= kind != Kind::Function;
            let first = self.addresses.partition_point(|&address| address < symbol.address());
            if first < self.addresses.len() {
                let found = (symbol.address(), symbol.size(), symbol.index().0);
                let best = last.get(&(kind, first));
                let mut may_be_function = || match kind {
                    Kind::Function => true,
                    Kind::Label => labels.next().is_some() && symbol.name().is_ok_and(is_of_function),
                };
                if best.is_none_or(|best| *best < found) && may_be_function() {
                    last.insert((kind, first), found);
                }
            }
        }
        for ((kind, at), (start, size, index)) in last {
            let place = match kind {
                Kind::Function => &mut self.functions[at],
                Kind::Label => &mut self.labels[at],
            };
            let is_later = place.as_ref().is_none_or(|known| (known.start, known.size) < (start, size));
            let symbol = table.as_ref().and_then(|table| table.symbol_by_index(SymbolIndex(index)).ok());
            if let Some(name) = symbol.as_ref().and_then(|symbol| symbol.name().ok())
                && is_later
            {
                *place = Some(Symbol { start, size, name: cut(without_version(name)).into() });
            }
        }
    }

    /// Whether the file has no functions in its symbol tables.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The symbol that covers the address; one without length reaches to the next.
    pub fn find(&self, address: u64) -> Option<Arc<str>> {
        let at = self.addresses.binary_search(&address).ok()?;
        let function = self.functions[at].as_ref();
        // A label inside of a function is a place to jump to.
        let label = self.labels[at].as_ref();
        let label = label.filter(|label| function.is_none_or(|function| function.reach() <= label.start));
        let symbol = label.or(function)?;
        let covers = symbol.size == 0 || address - symbol.start < symbol.size;
        (covers && !symbol.name.is_empty()).then(|| Arc::clone(&symbol.name))
    }
}

impl Symbol {
    /// Where another function may begin.
    fn reach(&self) -> u64 {
        self.start.saturating_add(self.size.max(1))
    }
}

/// The version of a versioned symbol is no part of its name.
fn without_version(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Whether a label may be the name of a function, by what assemblers and compilers call places inside of one: `.L1`,
/// `run.loop` (nasm), `.annobin_a.c` (Fedora), `$d`.
fn is_of_function(name: &str) -> bool {
    let name = without_version(name);
    !name.is_empty() && !name.starts_with('$') && !name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_inside_of_functions_are_none() {
        assert!(["copy", "copy@@LIB_1.0", "_dl_start_user"].into_iter().all(is_of_function));
        assert!(["", ".L1", ".annobin_a.c", "copy.loop", "$d", "@V"].into_iter().all(|name| !is_of_function(name)));
    }
}
