//! The process that serves at the other end of a channel, held so that no other is taken for it.

use std::io;
use std::os::windows::io::{AsHandle, FromRawHandle, OwnedHandle};
use std::time::Duration;

use windows_sys::Win32::Storage::FileSystem::SYNCHRONIZE;
use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION};

use super::channel::Channel;
use super::wait::wait_for_any;
use super::{pipe, stop_event};
use crate::User;
use crate::deadline::Deadline;

/// The process behind the other end of a channel.
#[derive(Debug)]
pub struct ExpectedProcess {
    pid: u32,
    user: User,
    process: OwnedHandle,
}

impl ExpectedProcess {
    /// Has the system tell which process serves there. Before the first byte is sent.
    ///
    /// # Errors
    ///
    /// `Unsupported` on TCP, `PermissionDenied` of a process that lets us not look, `NotFound` when it has
    /// ended.
    ///
    /// # Platform-specific behavior
    ///
    /// The process that has made this instance of the pipe (GetNamedPipeServerProcessId). It is held before anything
    /// is sent, and then the pipe has to be open still: so the number is not another's already.
    pub fn at(channel: &Channel) -> io::Result<ExpectedProcess> {
        let unknown = |kind, text: &str| io::Error::new(kind, text);
        let user = channel.peer().credentials().map(|known| known.user().clone());
        let found = channel.with_pipe(|handle| {
            let pid = pipe::server_pid(handle)?;
            let process = open(pid)?;
            match pipe::is_open(handle) {
                true => Ok((pid, process)),
                false => Err(unknown(io::ErrorKind::NotFound, "the server has gone")),
            }
        });
        let Some((found, user)) = found.zip(user) else {
            let text = "nobody tells which process serves there";
            return Err(unknown(io::ErrorKind::Unsupported, text));
        };
        let (pid, process) = found?;
        Ok(ExpectedProcess { pid, user, process })
    }

    /// Says who it is. It need not have said anything.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn meet(&self, _channel: &Channel, _timeout: Option<Duration>) -> io::Result<ForeignProcess> {
        let ExpectedProcess { pid, user, process } = self;
        Ok(ForeignProcess { pid: *pid, user: user.clone(), process: process.try_clone()? })
    }
}

/// A process by its number, held from here on.
pub(super) fn open(pid: u32) -> io::Result<OwnedHandle> {
    const INHERIT: i32 = 0;
    // SAFETY: only values are given.
    let handle = unsafe { OpenProcess(SYNCHRONIZE | PROCESS_QUERY_LIMITED_INFORMATION, INHERIT, pid) };
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// A process that others have started.
#[derive(Debug)]
pub struct ForeignProcess {
    pid: u32,
    user: User,
    process: OwnedHandle,
}

impl ForeignProcess {
    /// How it is asked to end, for messages.
    pub const REQUEST: &'static str = "stop event";

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Whose it is: the owner of the pipe.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Sets its event, for which it waits if it has a [`StopSignals`](crate::StopSignals). Nothing happens when it
    /// has ended.
    ///
    /// # Errors
    ///
    /// `Unsupported` for one that has none, or is in another session; `PermissionDenied` for one of higher integrity.
    pub fn ask_to_end(&self) -> io::Result<()> {
        match stop_event::ask(self.pid, &self.user) {
            Err(_) if self.wait(Some(Duration::ZERO))? => Ok(()),
            asked => asked,
        }
    }

    /// Waits for its end (`None`: however long that takes), and says whether it has come.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        Ok(wait_for_any(&[self.process.as_handle()], Deadline::after(timeout))?.is_some())
    }
}
