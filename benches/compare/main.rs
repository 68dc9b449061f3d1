//! How far Sidewire is from plain C on the same machine, in one run: `cargo bench --features cli --bench compare`.
//! Linux, with `cc` and `taskset`; `-- --help` has the options. benches/floor/README.md says what the C does.

#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
#[path = "../own/mod.rs"]
mod own;
#[cfg(target_os = "linux")]
mod rows;
#[cfg(target_os = "linux")]
mod sides;
#[cfg(target_os = "linux")]
mod table;

#[cfg(target_os = "linux")]
fn main() -> own::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(played) = own::play(&arguments) {
        return played;
    }
    // `cargo test --benches` passes no argument of cargo bench's.
    match options::read(&arguments)? {
        Some(options) => table::run(&options),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this comparison needs Linux");
}
