//! Sidewire's own two sides, as a program that needs nothing but the library.

#[path = "../own/mod.rs"]
mod own;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match own::play(&arguments) {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            eprintln!("{error}");
            std::process::exit(1);
        }
        None => {
            eprint!("usage:\n{}", own::USAGE);
            std::process::exit(2);
        }
    }
}
