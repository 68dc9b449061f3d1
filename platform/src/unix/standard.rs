//! Whether this process was started with standard streams.
//!
//! Rust's runtime puts /dev/null where one of the descriptors 0 to 2 is closed, before `main`: what
//! is then written vanishes, and reads as written. So this looks before the runtime does.

use std::sync::atomic::{AtomicBool, Ordering};

use libc::{STDIN_FILENO, STDOUT_FILENO, c_int};

static LACKS_INPUT: AtomicBool = AtomicBool::new(false);
static LACKS_OUTPUT: AtomicBool = AtomicBool::new(false);

/// The system's loader calls what is in this section before the program's start ("Initialization and
/// Termination Functions", System V ABI).
// SAFETY: the section holds pointers to functions, and this is one; it needs nothing of Rust's runtime.
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = look;

extern "C" fn look() {
    LACKS_INPUT.store(is_closed(STDIN_FILENO), Ordering::Relaxed);
    LACKS_OUTPUT.store(is_closed(STDOUT_FILENO), Ordering::Relaxed);
}

fn is_closed(descriptor: c_int) -> bool {
    // SAFETY: takes only numbers, and changes nothing.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) == -1 }
}

/// Whether this process was started with a standard input, as `<&-` of a shell prevents.
#[must_use]
pub fn has_standard_input() -> bool {
    !LACKS_INPUT.load(Ordering::Relaxed)
}

/// Whether this process was started with a standard output, as `>&-` of a shell prevents.
#[must_use]
pub fn has_standard_output() -> bool {
    !LACKS_OUTPUT.load(Ordering::Relaxed)
}
