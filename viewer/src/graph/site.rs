//! Sites: the innermost frame that is the program's own.

use std::sync::LazyLock;

use regex::Regex;

use crate::model::{Profile, without_arguments};

/// Which functions are plumbing between the program and the allocator.
pub struct SiteRule {
    is_plumbing: Vec<bool>,
}

impl SiteRule {
    /// The rule for the functions of `profile`.
    pub fn new(profile: &Profile) -> Self {
        let is_plumbing = profile
            .functions
            .iter()
            .map(|function| is_plumbing(profile.text(function.name), profile.text(function.file)))
            .collect();
        Self { is_plumbing }
    }

    /// The innermost frame that is not plumbing: its location and line; the innermost one if all are.
    pub fn site_of(&self, profile: &Profile, stack: &[u32]) -> Option<(u32, usize)> {
        for &location in stack {
            let lines = &profile.locations[location as usize].lines;
            if lines.is_empty() {
                return Some((location, 0));
            }
            let own = lines.iter().position(|line| !self.is_plumbing[line.function as usize]);
            if let Some(depth) = own {
                return Some((location, depth));
            }
        }
        stack.first().map(|&leaf| (leaf, 0))
    }
}

/// Whether a function only stands between the code that wanted memory and the allocator: the
/// languages' own libraries and the usual wrappers of malloc.
pub fn is_plumbing(name: &str, file: &str) -> bool {
    // What is inlined has no more than a plain name: of the standard library's hash map, and of the crate that it is, there
    // is the path alone.
    const FILES: [&str; 10] = [
        "/rustc/",
        "/rustc-1.",
        "/rust/deps/",
        "/hashbrown-",
        "/allocator-api2-",
        "/lib/rustlib/src/rust/library/",
        "/include/c++/",
        "/include/x86_64-linux-gnu/c++/",
        "/libstdc++-v3/",
        "library/alloc/src/",
    ];
    const PREFIXES: [&str; 11] = [
        "alloc::",
        "core::",
        "std::",
        "hashbrown::",
        "__gnu_cxx::",
        "operator new",
        "__rust_",
        "__rustc::__rust_",
        "__rdl_",
        "__rg_",
        "runtime.malloc",
    ];
    if FILES.iter().any(|part| file.contains(part)) {
        return true;
    }
    // `<alloc::vec::Vec<T> as …>::method` belongs to the type's crate; a type of the program with a
    // library's trait does not.
    let bare = name.trim_start_matches('<');
    if PREFIXES.iter().any(|prefix| bare.starts_with(prefix)) {
        return true;
    }
    WRAPPERS.is_match(without_arguments(name))
}

/// Wrappers of malloc as they are called everywhere: `xmalloc`, `g_realloc_n`, `zmalloc_usable`,
/// `_PyMem_RawMalloc`, `xstrdup`; not `sdsnew` or `cache_alloc`, which know what they allocate for. `palloc` and its relatives
/// take from pools, as PostgreSQL's memory contexts do; who has a pool grow is, more often than not, who takes most of it.
static WRAPPERS: LazyLock<Regex> = LazyLock::new(|| {
    let allocate = "(?:try_?)?(?:raw)?(?:[mczp]|pn|re)alloc(?:0|_n|array|_array)?";
    let align = "(?:posix_)?memalign|aligned_alloc|strn?dup";
    let rest = "(?:_usable|_internal|_with_flags|_num|_extended)*";
    let pool =
        "(?:MemoryContext|AllocSet|Generation|Slab|Bump)(?:Alloc|Realloc|Strdup|ContextCreate)(?:[A-Z][A-Za-z]*)?";
    Regex::new(&format!("(?i)^_*(?:(?:[a-z0-9]+_)*[a-z]{{0,2}}(?:{allocate}|{align}){rest}|(?-i:{pool}))$"))
        .expect("the expression is a constant")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plumbing_is_told_from_programs() {
        for name in [
            "alloc::vec::Vec<T>::push",
            "<alloc::vec::Vec<T> as core::clone::Clone>::clone",
            "std::vector<int, std::allocator<int> >::push_back",
            "operator new(unsigned long)",
            "xmalloc",
            "zmalloc",
            "strdup",
            "g_malloc",
            "__rust_alloc",
            "_PyMem_RawMalloc",
            "_PyObject_Malloc",
            "ztrymalloc_usable_internal",
            "g_realloc_n",
            "xstrdup",
            "posix_memalign",
            "palloc0",
            "repalloc",
            "pnstrdup",
            "MemoryContextAllocZeroAligned",
            "AllocSetAlloc",
            "AllocSetContextCreateInternal",
            "apr_palloc",
            "ngx_pnalloc",
        ] {
            assert!(is_plumbing(name, ""), "{name}");
        }
        for name in [
            "main",
            "serve",
            "<app::Cache as core::clone::Clone>::clone",
            "sdsnewlen",
            "cache_alloc",
            "small_list",
            "BumpAllocator",
            "app::std::x",
        ] {
            assert!(!is_plumbing(name, ""), "{name}");
        }
        for (name, file) in [
            ("push_back", "/usr/include/c++/12/bits/stl_vector.h"),
            ("do_alloc<alloc::alloc::Global>", "/rust/deps/hashbrown-0.16.1/src/raw/alloc.rs"),
            (
                "resize_inner<Global>",
                "/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/hashbrown-0.15.2/src/raw/mod.rs",
            ),
            (
                "allocate",
                "/home/u/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/allocator-api2-0.2.21/src/stable/alloc/global.rs",
            ),
            ("insert<u64>", "/usr/src/rustc-1.63.0/library/std/src/collections/hash/map.rs"),
        ] {
            assert!(is_plumbing(name, file), "{name} {file}");
        }
    }
}
