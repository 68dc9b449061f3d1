//! How far the server is from a bare C loop that sends every byte back, on the same machine, in
//! one run: `cargo bench --features cli`. Linux, with `cc` and `taskset`.

#[cfg(unix)]
mod unix;

fn main() {
    #[cfg(unix)]
    unix::run();
    #[cfg(not(unix))]
    println!("this comparison needs Unix sockets");
}
