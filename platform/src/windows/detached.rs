//! A program that outlives whoever starts it.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::os::windows::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::ptr;
use std::time::Duration;

use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;
use windows_sys::Win32::System::Threading::{
    CREATE_BREAKAWAY_FROM_JOB, CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW, CREATE_UNICODE_ENVIRONMENT,
    CreateProcessW, PROCESS_INFORMATION, STARTF_USESTDHANDLES, STARTUPINFOW, TerminateProcess,
};

use super::command_line::{command_line, wide};
use super::environment;
use super::pipe::has_code;
use super::process::exit_code;
use super::wait::wait_for_any;
use crate::deadline::Deadline;
use crate::inherited::CHANNEL;

/// A program that is to be on its own: it outlives whoever starts it, and has nothing of theirs.
///
/// # Platform-specific behavior
///
/// Windows: it gets no console, no standard streams, a process group of its own, and leaves the job of whoever starts
/// it, if that lets it ("Process Creation Flags", learn.microsoft.com/windows/win32/procthread/process-creation-flags).
/// It inherits no handle, whoever has made which inheritable.
#[derive(Debug)]
pub struct Program(Command);

/// A [`Program`] that was started. Dropping this leaves it alone.
#[derive(Debug)]
pub struct Started {
    process: OwnedHandle,
    pid: u32,
}

impl Program {
    /// This program, with these arguments, environment and working folder. What was said of its standard streams is
    /// forgotten.
    #[must_use]
    pub fn new(mut command: Command) -> Program {
        // Which a helper that starts this has perhaps not taken yet.
        command.env_remove(CHANNEL);
        Program(command)
    }

    /// What is started, for people.
    #[must_use]
    pub fn name(&self) -> String {
        self.0.get_program().to_string_lossy().into_owned()
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// What the system says: in particular `NotFound` and `PermissionDenied`.
    pub fn start(&mut self) -> io::Result<Started> {
        let mut line = command_line(&self.0)?;
        let environment = environment::block(&mut self.0, None)?;
        let folder = self.0.get_current_dir().map(|folder| wide(folder.as_os_str())).transpose()?;
        let folder = folder.map(|folder| [folder, vec![0]].concat());
        match create(&mut line, &environment, folder.as_deref(), CREATE_BREAKAWAY_FROM_JOB) {
            // Perhaps the job does not let it out.
            Err(error) if has_code(&error, ERROR_ACCESS_DENIED) => {
                create(&mut line, &environment, folder.as_deref(), 0)
            }
            started => started,
        }
    }
}

/// `line`, which the system may write to, and `folder` end with a NUL, the environment with two.
fn create(line: &mut [u16], environment: &[u16], folder: Option<&[u16]>, more: u32) -> io::Result<Started> {
    const INHERIT: i32 = 0;
    let flags = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP | CREATE_UNICODE_ENVIRONMENT | more;
    // With no standard handles.
    let startup = STARTUPINFOW {
        cb: size_of::<STARTUPINFOW>() as u32,
        dwFlags: STARTF_USESTDHANDLES,
        ..STARTUPINFOW::default()
    };
    let mut created = PROCESS_INFORMATION::default();
    // SAFETY: line, environment and folder end as the system wants it; they, `startup` and `created` live until
    // the call returns.
    let ok = unsafe {
        CreateProcessW(
            ptr::null(),
            line.as_mut_ptr(),
            ptr::null(),
            ptr::null(),
            INHERIT,
            flags,
            environment.as_ptr().cast(),
            folder.map_or(ptr::null(), <[u16]>::as_ptr),
            &raw const startup,
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
    Ok(Started { process, pid: created.dwProcessId })
}

impl Started {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.ended_within(Duration::ZERO)
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// What the system says; not that it has ended already.
    pub fn kill(&mut self) -> io::Result<()> {
        const CODE: u32 = 1;
        // SAFETY: the handle is open as long as `self`.
        if unsafe { TerminateProcess(self.process.as_raw_handle(), CODE) } != 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match self.try_wait()? {
            Some(_) => Ok(()),
            None => Err(error),
        }
    }

    fn ended_within(&self, time: Duration) -> io::Result<Option<ExitStatus>> {
        match wait_for_any(&[self.process.as_handle()], Deadline::after(Some(time)))? {
            None => Ok(None),
            Some(_) => exit_code(self.process.as_handle()).map(|code| Some(ExitStatus::from_raw(code))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_or_ends_is_told() {
        let error = Program::new(Command::new("no-such-program")).start().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let mut command = Command::new("cmd.exe");
        command.args(["/c", "exit 7"]);
        let mut started = Program::new(command).start().unwrap();
        assert!(started.pid() > 0);
        let ended = started.ended_within(Duration::from_secs(60)).unwrap();
        assert_eq!(ended.and_then(|status| status.code()), Some(7));
        assert_eq!(started.try_wait().unwrap(), ended);
        started.kill().unwrap();
    }
}
