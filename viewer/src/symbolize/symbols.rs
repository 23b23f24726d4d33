//! Functions of ELF symbol tables, for what debug information has no name for.

use std::sync::Arc;

use hashbrown::HashMap;
use object::{Object, ObjectSymbol, ObjectSymbolTable, ReadRef, SymbolIndex, SymbolKind};

use super::demangle::cut;
use super::mini;
use super::module::Parsed;

/// Which of a file's two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    All,
    Dynamic,
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
    /// For each address the symbol that begins last, of those that don't begin after it.
    last: Vec<Option<Symbol>>,
    is_empty: bool,
}

impl<'b> Symbols<'b> {
    /// Those of a file that these sorted addresses may lie in: of its symbol table or, if it is stripped, of the dynamic one
    /// and of what is left of the other.
    pub fn of(object: &Parsed<'_>, addresses: &'b [u64]) -> Self {
        let mut symbols = Self { addresses, last: vec![None; addresses.len()], is_empty: true };
        symbols.add(object, Table::All);
        if symbols.is_empty {
            symbols.add(object, Table::Dynamic);
            let rest = mini::file(object);
            if let Some(rest) = rest.as_deref().and_then(|rest| object::File::parse(rest).ok()) {
                symbols.add(&rest, Table::All);
            }
        }
        // What is best for an address may be best for those that follow.
        for at in 1..symbols.last.len() {
            if symbols.last[at].is_none() {
                symbols.last[at] = symbols.last[at - 1].clone();
            }
        }
        symbols
    }

    fn add<'d, R: ReadRef<'d>>(&mut self, object: &object::File<'d, R>, which: Table) {
        let (symbols, table) = match which {
            Table::All => (object.symbols(), object.symbol_table()),
            Table::Dynamic => (object.dynamic_symbols(), object.dynamic_symbol_table()),
        };
        let mut last: HashMap<usize, (u64, u64, usize)> = HashMap::new();
        for symbol in symbols {
            if symbol.kind() != SymbolKind::Text || symbol.is_undefined() {
                continue;
            }
            self.is_empty = false;
            let first = self.addresses.partition_point(|&address| address < symbol.address());
            if first < self.addresses.len() {
                let symbol = (symbol.address(), symbol.size(), symbol.index().0);
                let best = last.entry(first).or_insert(symbol);
                *best = (*best).max(symbol);
            }
        }
        for (at, (start, size, index)) in last {
            let is_later = self.last[at].as_ref().is_none_or(|known| (known.start, known.size) < (start, size));
            let symbol = table.as_ref().and_then(|table| table.symbol_by_index(SymbolIndex(index)).ok());
            if let Some(name) = symbol.as_ref().and_then(|symbol| symbol.name().ok())
                && is_later
            {
                // The version of a versioned symbol is no part of its name.
                let name = cut(name.split('@').next().unwrap_or(name)).into();
                self.last[at] = Some(Symbol { start, size, name });
            }
        }
    }

    /// Whether the file has no functions in its symbol tables.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The symbol that covers the address; one without length reaches to the next.
    pub fn find(&self, address: u64) -> Option<Arc<str>> {
        let symbol = self.last[self.addresses.binary_search(&address).ok()?].as_ref()?;
        let covers = symbol.size == 0 || address - symbol.start < symbol.size;
        (covers && !symbol.name.is_empty()).then(|| Arc::clone(&symbol.name))
    }
}
