//! Link arguments of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Bound and read-only before the program runs; never unloaded, since threads' exit handlers point into it.
    for arg in ["-Wl,-z,now", "-Wl,-z,relro", "-Wl,-z,nodelete", "-Wl,-soname,libheapsift.so"] {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
    // What every process runs, side by side: tools/warm-functions.
    println!("cargo:rerun-if-changed=warm.ld");
    let place = std::env::var("CARGO_MANIFEST_DIR").expect("cargo says where this package is");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-T,{place}/warm.ld");
    // The compiler's unwinder comes in with Rust's standard library. Linked statically it costs nothing until it is
    // used; as a library it would be one more file to open and relocate in every process that starts.
    println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    println!("cargo:rustc-link-search=native={}", compiler_directory());
}

/// Where the C compiler keeps its own static libraries.
fn compiler_directory() -> String {
    let output = std::process::Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let output = output.expect("cc, which links this library, can be run");
    let file = String::from_utf8(output.stdout).expect("a path");
    let directory = std::path::Path::new(file.trim()).parent().expect("cc knows where libgcc_eh.a is");
    directory.display().to_string()
}
