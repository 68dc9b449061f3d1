//! Whether this process was started with standard streams.

use std::io;
use std::os::windows::io::{AsRawHandle, RawHandle};

use windows_sys::Win32::Foundation::INVALID_HANDLE_VALUE;

/// Whether this process has a standard input, as programs without a console may not (GetStdHandle).
#[must_use]
pub fn has_standard_input() -> bool {
    is_one(io::stdin().as_raw_handle())
}

/// Whether this process has a standard output, as programs without a console may not (GetStdHandle).
#[must_use]
pub fn has_standard_output() -> bool {
    is_one(io::stdout().as_raw_handle())
}

fn is_one(handle: RawHandle) -> bool {
    !handle.is_null() && handle != INVALID_HANDLE_VALUE
}
