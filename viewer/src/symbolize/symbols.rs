//! Functions of ELF symbol tables, for what debug information has no name for.

use object::{Object, ObjectSymbol, SymbolKind};

use super::demangle::cut;
use super::module::Parsed;

/// Start, length (0: unknown) and index of a symbol, and whether it is in the dynamic table.
type Symbol = (u64, u64, object::SymbolIndex, bool);

/// Functions of the ELF symbol table, as far as addresses ask for them.
pub struct Symbols<'a, 'b> {
    object: &'b Parsed<'a>,
    addresses: &'b [u64],
    /// For each address the symbol that begins last, of those that don't begin after it.
    last: Vec<Option<Symbol>>,
    is_empty: bool,
}

impl<'a, 'b> Symbols<'a, 'b> {
    /// Those of a file that these sorted addresses may lie in.
    pub fn of(object: &'b Parsed<'a>, addresses: &'b [u64]) -> Self {
        let mut last: Vec<Option<Symbol>> = vec![None; addresses.len()];
        let mut is_empty = true;
        let key = |symbol: &Symbol| (symbol.0, symbol.1, symbol.2.0);
        for (dynamic, table) in [(false, object.symbols()), (true, object.dynamic_symbols())] {
            for symbol in table {
                if symbol.kind() != SymbolKind::Text || symbol.is_undefined() {
                    continue;
                }
                is_empty = false;
                let symbol = (symbol.address(), symbol.size(), symbol.index(), dynamic);
                let first = addresses.partition_point(|&address| address < symbol.0);
                if let Some(best) = last.get_mut(first)
                    && best.is_none_or(|best| key(&best) < key(&symbol))
                {
                    *best = Some(symbol);
                }
            }
            if !is_empty {
                break;
            }
        }
        // What is best for an address may be best for those that follow.
        for at in 1..last.len() {
            if last[at].is_none() {
                last[at] = last[at - 1];
            }
        }
        Self { object, addresses, last, is_empty }
    }

    /// Whether the file has no functions in its symbol tables.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The symbol that covers the address; one without length reaches to the next.
    pub fn find(&self, address: u64) -> Option<String> {
        let (start, size, index, dynamic) = self.last[self.addresses.binary_search(&address).ok()?]?;
        if size != 0 && address - start >= size {
            return None;
        }
        let table = if dynamic { self.object.dynamic_symbol_table()? } else { self.object.symbol_table()? };
        let symbol = object::ObjectSymbolTable::symbol_by_index(&table, index).ok()?;
        let name = symbol.name().ok().filter(|name| !name.is_empty())?;
        // The version of a versioned symbol is no part of its name.
        Some(cut(name.split('@').next().unwrap_or(name)).to_owned())
    }
}
