//! Gives the shared library the name by which programs load it: with the number of what they were built against, so that
//! they never load one that no longer fits. README.md says when that number changes.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let [os, major, minor] = ["CARGO_CFG_TARGET_OS", "CARGO_PKG_VERSION_MAJOR", "CARGO_PKG_VERSION_MINOR"]
        .map(|name| std::env::var(name).unwrap_or_default());
    if os == "linux" {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libsidewire_c.so.{major}.{minor}");
    }
}
