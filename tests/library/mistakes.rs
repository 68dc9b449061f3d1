//! What the compiler says to those who err. Each compiler says it in its own words, so they are looked at with one, and
//! with all features, since further bounds add to them.

use std::process::Command;

/// Whose words are in `tests/mistakes`. With another one: `TRYBUILD=overwrite cargo test mistakes`, and look at them.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn the_compiler_says_what_to_do() {
    let version = Command::new("rustc").arg("--version").output().expect("a compiler").stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(COMPILER) {
        return eprintln!("left out with {version}");
    }
    trybuild::TestCases::new().compile_fail("tests/mistakes/*.rs");
}
