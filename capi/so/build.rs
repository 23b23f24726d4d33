//! Link arguments of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Bound and read-only before the program runs; never unloaded, since threads' exit handlers point into it.
    for arg in ["-Wl,-z,now", "-Wl,-z,relro", "-Wl,-z,nodelete", "-Wl,-soname,libheapsift.so"] {
        println!("cargo:rustc-cdylib-link-arg={arg}");
    }
}
