//! What every process is created from, whoever starts it.
//!
//! "CreateProcessW function",
//! learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-createprocessw.

use std::io;
use std::os::windows::io::{FromRawHandle, OwnedHandle};
use std::process::Command;
use std::ptr;

use windows_sys::Win32::System::Threading::{
    CREATE_NO_WINDOW, CREATE_UNICODE_ENVIRONMENT, CreateProcessW, PROCESS_INFORMATION, STARTUPINFOW,
};

use super::command_line::{command_line, wide};
use super::environment;
use super::search::program_of;

/// Program, command line and folder end with a NUL, the environment with two.
#[derive(Debug)]
pub(super) struct Creation {
    program: Vec<u16>,
    /// The system may write to it.
    line: Vec<u16>,
    environment: Vec<u16>,
    folder: Option<Vec<u16>>,
}

/// A process that was created.
#[derive(Debug)]
pub(super) struct Created {
    pub(super) process: OwnedHandle,
    pub(super) id: u32,
}

/// Which handles of ours the process gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inherits {
    /// Whoever has made which inheritable.
    None,
    /// Those that the startup information lists.
    Listed,
}

impl Creation {
    /// Of a command's program, arguments, environment and folder, and one variable more.
    pub(super) fn of(command: &mut Command, variable: Option<(&str, &str)>) -> io::Result<Creation> {
        let line = command_line(command)?;
        let environment = environment::block(command, variable)?;
        let with_end = |text| wide(text).map(|text| [text, vec![0]].concat());
        let folder = command.get_current_dir().map(|folder| with_end(folder.as_os_str())).transpose()?;
        let program = with_end(program_of(command)?.as_os_str())?;
        Ok(Creation { program, line, environment, folder })
    }

    /// Creates it, without a window.
    ///
    /// # Safety
    ///
    /// `startup` is of the kind that its size and the flags say; it, and what it points to, live until this returns.
    pub(super) unsafe fn create(
        &mut self,
        startup: *const STARTUPINFOW,
        inherits: Inherits,
        flags: u32,
    ) -> io::Result<Created> {
        let mut created = PROCESS_INFORMATION::default();
        // SAFETY: all texts end as the system wants it; they and `created` live until the call returns, and
        // `startup` does by this function's contract.
        let ok = unsafe {
            CreateProcessW(
                self.program.as_ptr(),
                self.line.as_mut_ptr(),
                ptr::null(),
                ptr::null(),
                i32::from(inherits == Inherits::Listed),
                CREATE_NO_WINDOW | CREATE_UNICODE_ENVIRONMENT | flags,
                self.environment.as_ptr().cast(),
                self.folder.as_deref().map_or(ptr::null(), <[u16]>::as_ptr),
                startup,
                &raw mut created,
            )
        };
        if ok == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so both are open handles that nobody else owns.
        let (process, _thread) = unsafe {
            (OwnedHandle::from_raw_handle(created.hProcess), OwnedHandle::from_raw_handle(created.hThread))
        };
        Ok(Created { process, id: created.dwProcessId })
    }
}
