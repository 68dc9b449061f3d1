//! A program that outlives whoever starts it.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};
use std::os::windows::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;
use windows_sys::Win32::System::Threading::{
    CREATE_BREAKAWAY_FROM_JOB, CREATE_NEW_PROCESS_GROUP, STARTF_USESTDHANDLES, STARTUPINFOW, TerminateProcess,
};

use super::creation::{Created, Creation, Inherits};
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
/// It inherits no handle, whoever has made which inheritable. Its program is looked for as [`std::process::Command`]
/// does, never in the current folder: see [`ChildProcess::spawn`](crate::ChildProcess::spawn).
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
        let mut creation = Creation::of(&mut self.0, None)?;
        let Created { process, id } = match create(&mut creation, CREATE_BREAKAWAY_FROM_JOB) {
            // Perhaps the job does not let it out.
            Err(error) if has_code(&error, ERROR_ACCESS_DENIED) => create(&mut creation, 0)?,
            created => created?,
        };
        Ok(Started { process, pid: id })
    }
}

fn create(creation: &mut Creation, more: u32) -> io::Result<Created> {
    // With no standard handles.
    let startup = STARTUPINFOW {
        cb: size_of::<STARTUPINFOW>() as u32,
        dwFlags: STARTF_USESTDHANDLES,
        ..STARTUPINFOW::default()
    };
    // SAFETY: it is of the shorter kind, as its size and the lack of a flag say, and lives until the call returns.
    unsafe { creation.create(&raw const startup, Inherits::None, CREATE_NEW_PROCESS_GROUP | more) }
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
