//! A program that outlives whoever starts it.

use std::io;
use std::os::windows::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};

use windows_sys::Win32::Foundation::ERROR_ACCESS_DENIED;
use windows_sys::Win32::System::Threading::{
    CREATE_BREAKAWAY_FROM_JOB, CREATE_NEW_PROCESS_GROUP, CREATE_NO_WINDOW,
};

use super::pipe::has_code;
use crate::inherited::CHANNEL;

/// A program that is to be on its own: it outlives whoever starts it, and has nothing of theirs.
///
/// # Platform-specific behavior
///
/// Windows: it gets no console, no standard streams, a process group of its own, and leaves the job of whoever starts
/// it, if that lets it ("Process Creation Flags", learn.microsoft.com/windows/win32/procthread/process-creation-flags).
/// Of handles it inherits only those that other code has made inheritable, which nothing here does.
#[derive(Debug)]
pub struct Program(Command);

/// A [`Program`] that was started. Dropping this leaves it alone.
#[derive(Debug)]
pub struct Started(Child);

impl Program {
    /// This program, with these arguments, environment and working folder. What was said of its standard streams is
    /// forgotten.
    #[must_use]
    pub fn new(mut command: Command) -> Program {
        // Which a helper that starts this has perhaps not taken yet.
        command.env_remove(CHANNEL);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
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
        const ALONE: u32 = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP;
        let started = match self.0.creation_flags(ALONE | CREATE_BREAKAWAY_FROM_JOB).spawn() {
            // Perhaps the job does not let it out.
            Err(error) if has_code(&error, ERROR_ACCESS_DENIED) => self.0.creation_flags(ALONE).spawn(),
            started => started,
        };
        started.map(Started)
    }
}

impl Started {
    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// What the system says; not that it has ended already.
    pub fn kill(&mut self) -> io::Result<()> {
        match self.try_wait()? {
            Some(_) => Ok(()),
            None => self.0.kill(),
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
        assert_eq!(started.0.wait().unwrap().code(), Some(7));
        assert_eq!(started.try_wait().unwrap().and_then(|status| status.code()), Some(7));
        started.kill().unwrap();
    }
}
