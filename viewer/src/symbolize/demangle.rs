//! Names for people out of names for the linker: Rust (v0 and legacy) and C++, within limits, since a
//! short hostile name can stand for a very long one.

use core::fmt::{self, Write};

/// Bytes of a name, mangled or not.
const MAX_NAME: usize = 64 << 10;
/// Nesting of a C++ name.
const MAX_NESTING: u32 = 128;

/// Text that refuses to grow beyond the limit.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_NAME {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// The name as its author wrote it, or unchanged where it is no mangled name or too long a one.
pub fn demangle(name: &str) -> String {
    let name = cut(name);
    let mut out = Bounded(String::new());
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        if write!(out, "{rust:#}").is_ok() {
            return out.0;
        }
    } else if name.starts_with("_Z") || name.starts_with("__Z") {
        let parse = cpp_demangle::ParseOptions::default().recursion_limit(MAX_NESTING);
        let print = cpp_demangle::DemangleOptions::new().recursion_limit(MAX_NESTING);
        let symbol = cpp_demangle::BorrowedSymbol::with_tail_and_options(name.as_bytes(), &parse);
        if let Ok((symbol, rest)) = symbol
            && (rest.is_empty() || rest[0] == b'.')
            && symbol.structured_demangle(&mut out, &print).is_ok()
        {
            // What the compiler appended to a copy of the function: `.cold`, `.part.0`.
            if !rest.is_empty() {
                let rest = String::from_utf8_lossy(rest);
                let _ = write!(out, " [clone {rest}]");
            }
            return out.0;
        }
    }
    name.to_owned()
}

/// At most [`MAX_NAME`] bytes of a name.
pub fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_languages() {
        assert_eq!(demangle("_ZN3foo3barEi"), "foo::bar(int)");
        assert_eq!(demangle("_ZN3foo3barEi.cold"), "foo::bar(int) [clone .cold]");
        assert_eq!(demangle("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), "core::fmt::Write::write_fmt");
        assert_eq!(demangle("_RNvCskwGfYPst2Cb_3foo3bar"), "foo::bar");
        assert_eq!(demangle("main"), "main");
        assert_eq!(demangle("_Znot a name"), "_Znot a name");
    }

    #[test]
    fn hostile_names_stay_short() {
        // Every substitution doubles the text.
        let doubling = format!("_Z1fI{}E", "St4pairIS_S_E".repeat(2000));
        assert!(demangle(&doubling).len() <= MAX_NAME);
        assert!(demangle(&"P".repeat(1 << 20)).len() <= MAX_NAME);
        assert!(demangle(&format!("_Z1f{}i", "P".repeat(60_000))).len() <= MAX_NAME);
        assert_eq!(cut(&"ä".repeat(40_000)).len(), MAX_NAME);
    }
}
