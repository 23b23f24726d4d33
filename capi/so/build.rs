//! Link arguments of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Bound and read-only before the program runs; never unloaded, since threads' exit handlers point into it.
    for arg in ["-Wl,-z,now", "-Wl,-z,relro", "-Wl,-z,nodelete", "-Wl,-soname,libheapsift.so"] {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
    // What every process runs, side by side: tools/warm-functions. And what hardly any reads, apart: src/cold.rs.
    println!("cargo:rustc-check-cfg=cfg(cold_sections)");
    let place =
        std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where this package is"));
    let script = |name: &str| {
        println!("cargo:rerun-if-changed={name}");
        std::fs::read_to_string(place.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let mut text = script("warm.ld");
    if is_linked_by_lld() {
        text = script("cold.ld") + &text;
        println!("cargo:rustc-cfg=cold_sections");
    }
    let out =
        std::path::PathBuf::from(std::env::var("OUT_DIR").expect("cargo says where to write")).join("sections.ld");
    std::fs::write(&out, text).unwrap_or_else(|error| panic!("{}: {error}", out.display()));
    println!("cargo:rustc-cdylib-link-arg=-Wl,-T,{}", out.display());
    // The compiler's unwinder comes in with Rust's standard library. Linked statically it costs nothing until it is
    // used; as a library it would be one more file to open and relocate in every process that starts.
    println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    println!("cargo:rustc-link-search=native={}", compiler_directory());
}

/// Whether the linker is the one that Rust brings along, which it takes unless somebody has asked for another.
fn is_linked_by_lld() -> bool {
    println!("cargo:rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let other = ["linker-features", "linker-flavor", "linker=", "fuse-ld", "link-self-contained"];
    std::env::var_os("RUSTC_LINKER").is_none() && !other.iter().any(|word| flags.contains(word))
}

/// Where the C compiler keeps its own static libraries.
fn compiler_directory() -> String {
    let output = std::process::Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let output = output.expect("cc, which links this library, can be run");
    let file = String::from_utf8(output.stdout).expect("a path");
    let directory = std::path::Path::new(file.trim()).parent().expect("cc knows where libgcc_eh.a is");
    directory.display().to_string()
}
