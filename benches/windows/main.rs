//! Pipes and TCP on Windows, beside bare C in the same run: a table in Markdown. The release build, client and server
//! in processes of their own.
//!
//! Under Wine, which builds and brings all that it needs: `ci/windows cargo bench --bench windows`, and
//! `taskset -c 1 ci/windows cargo bench --bench windows` for all of it on one core. On Windows the C program
//! `floor.c` must have been built, as `ci/windows` does it.

#[cfg(windows)]
mod compare;

fn main() {
    #[cfg(windows)]
    compare::run();
    #[cfg(not(windows))]
    println!("this comparison needs Windows, or Wine: ci/windows cargo bench --bench windows");
}
