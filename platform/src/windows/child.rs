//! Child processes that have a channel of their own: the parent's side.

use std::fs::File;
use std::io;
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::os::windows::process::ExitStatusExt;
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use interprocess::os::windows::security_descriptor::SecurityDescriptor;

use super::channel::Channel;
use super::inherited::{self, Secret};
use super::job::Job;
use super::names::PipeName;
use super::overlapped::Started;
use super::pipe::{self, Instance};
use super::process::exit_code;
use super::start::Input;
use super::wait::{Event, wait_for_any};
use super::{copying, identity, security, start};
use crate::deadline::Deadline;
use crate::inherited::CHANNEL;
use crate::{BindOptions, Credentials, Peer};

/// What a process says that was ended by others, as with std's `Child::kill`.
const KILLED: u32 = 1;

/// A child process with a private channel, which nobody else can open. Dropping it kills the child and
/// all that it has started.
///
/// What may be called at any time from several threads takes `&self`: one can wait while another kills.
///
/// # Platform-specific behavior
///
/// Windows: the child and what it starts are in a job that ends with this process (JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE),
/// at once and without a last word. The channel is a pipe with a random name of 128 bits, which is in the variable
/// `SIDEWIRE_CHANNEL` of the child, as `pipe:NAME`; it has one instance, lets in this user and SYSTEM, and takes
/// nobody who is not in the job. The child has no console window, and of our handles its standard streams only;
/// those are inheritable while it is being started, so that a child that other code starts in this moment may get them,
/// too, and hold the pipe of what it prints open.
pub struct ChildProcess {
    id: u32,
    process: OwnedHandle,
    job: Job,
    name: PipeName,
    /// Until somebody takes it.
    channel: Mutex<Option<Way>>,
    /// Tells a child that listens to end.
    end: Event,
    stdout: Option<File>,
    stderr: Option<File>,
}

/// How far a channel is.
#[derive(Debug)]
enum Way {
    /// Our end of a pipe that the child is to open.
    Awaited(OwnedHandle),
    There(Channel),
}

impl ChildProcess {
    /// Starts a program. Its standard input is empty; what it prints can be had by
    /// [`ChildProcess::take_stdout`] and [`ChildProcess::take_stderr`]. The command can be used again.
    ///
    /// Of the command count the program, the arguments, the environment and the folder. A program that says no folder is
    /// looked for as std does: in the `PATH` that the command sets, beside this program, in the system's folders, in our
    /// `PATH`; with `.exe` unless it has an extension, and never in the current folder, not even if `PATH` says so. What
    /// was said with `raw_arg` is an argument like others.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] and [`io::ErrorKind::PermissionDenied`] about the program;
    /// [`io::ErrorKind::InvalidInput`] for a script (`.bat`, `.cmd`), whose arguments cmd.exe would take apart by rules
    /// of its own, and for what no process can be given; what the system says.
    pub fn spawn(command: &mut Command) -> io::Result<ChildProcess> {
        let secret = Secret::new()?;
        let name = secret.pipe()?;
        let descriptor = security::descriptor(&BindOptions::default())?;
        let pipe = create_pipe(&name, &descriptor)?;
        let end = inherited::create_end(&secret, &descriptor)?;
        let job = Job::new()?;
        let started = start::start(command, &job, Some((CHANNEL, &secret.to_string())), Input::Nothing)?;
        Ok(ChildProcess {
            id: started.id,
            process: started.process,
            job,
            name,
            channel: Mutex::new(Some(Way::Awaited(pipe))),
            end,
            stdout: Some(started.stdout),
            stderr: Some(started.stderr),
        })
    }

    /// Starts a program whose standard input and output are the channel, so that it need not know of us. What it prints
    /// as errors can be had by [`ChildProcess::take_stderr`], and there is no [`ChildProcess::take_stdout`]. Otherwise as
    /// [`ChildProcess::spawn`]; the variable named there is removed from the command.
    ///
    /// # Errors
    ///
    /// As [`ChildProcess::spawn`].
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: two anonymous pipes, since most programs can't read and write at a time through one handle; two threads copy
    /// between them and the channel, which is a pipe with a random name of 128 bits, and this process has both its ends.
    pub fn spawn_on_standard(command: &mut Command) -> io::Result<ChildProcess> {
        let secret = Secret::new()?;
        let name = secret.pipe()?;
        let descriptor = security::descriptor(&BindOptions::default())?;
        let far = create_pipe(&name, &descriptor)?;
        let near = pipe::open(&name, Deadline::after(Some(DYING)))?;
        let end = inherited::create_end(&secret, &descriptor)?;
        let job = Job::new()?;
        command.env_remove(CHANNEL);
        let started = start::start(command, &job, None, Input::Ours)?;
        let peer = Peer::new(Some(Credentials::new(identity::current_user()?, Some(started.id), None)), None);
        let near = Channel::of_pipe(near, &name, peer)?;
        copying::start(Channel::of_pipe(far, &name, Peer::unknown())?, started.stdin, started.stdout)?;
        Ok(ChildProcess {
            id: started.id,
            process: started.process,
            job,
            name,
            channel: Mutex::new(Some(Way::There(near))),
            end,
            stdout: None,
            stderr: Some(started.stderr),
        })
    }

    /// The process id. Nobody else gets it as long as this lives.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The channel, once: waits until the child has opened its end. The peer is the child, or what it has started to
    /// do so; the user is our own.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when it was taken before (or is being waited for); [`io::ErrorKind::TimedOut`] when the
    /// child did not come for it in time, [`io::ErrorKind::BrokenPipe`] when it has ended instead.
    pub fn channel(&self, timeout: Option<Duration>) -> io::Result<Channel> {
        let taken = || io::Error::new(io::ErrorKind::NotFound, "the channel of this child was taken before");
        let pipe = match lock(&self.channel).take().ok_or_else(taken)? {
            Way::There(channel) => return Ok(channel),
            Way::Awaited(pipe) => pipe,
        };
        match self.accept(&pipe, Deadline::after(timeout)) {
            Ok(pid) => {
                let user = identity::current_user()?;
                let peer = Peer::new(Some(Credentials::new(user, Some(pid), None)), None);
                Channel::of_pipe(pipe, &self.name, peer)
            }
            Err(error) => {
                *lock(&self.channel) = Some(Way::Awaited(pipe));
                Err(error)
            }
        }
    }

    /// Waits for the child, and throws others out. Says which process has come.
    fn accept(&self, pipe: &OwnedHandle, deadline: Deadline) -> io::Result<u32> {
        loop {
            self.wait_for_client(pipe, deadline)?;
            match pipe::client_pid(pipe.as_handle()) {
                Ok(pid) if pid == self.id || self.job.has(pid) => return Ok(pid),
                Ok(pid) => log::warn!("process {pid} has opened the channel of child {}", self.id),
                Err(error) => log::debug!("who has opened the channel of child {}: {error}", self.id),
            }
            pipe::disconnect(pipe.as_handle())?;
        }
    }

    /// Returns when somebody is at the other end, or was.
    fn wait_for_client(&self, pipe: &OwnedHandle, deadline: Deadline) -> io::Result<()> {
        if pipe::has_client(pipe.as_handle())? {
            return Ok(());
        }
        let event = Event::new()?;
        let mut overlapped = event.overlapped();
        let overlapped = &raw mut overlapped;
        // SAFETY: it stays on this stack until the operation has ended, which is waited for below.
        let started = unsafe { pipe::start_accept(pipe.as_handle(), overlapped) }?;
        if matches!(started, Started::Finished) {
            return Ok(());
        }
        let woken = wait_for_any(&[event.as_handle(), self.process.as_handle()], deadline);
        pipe::cancel(pipe.as_handle(), overlapped);
        event.wait_for_end();
        // Somebody may have come at the last moment, and left.
        if pipe::has_client(pipe.as_handle())? {
            return Ok(());
        }
        match woken? {
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "the child has not opened its channel")),
            Some(0) => Ok(()),
            Some(_) => Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the child has ended without opening its channel",
            )),
        }
    }

    /// What it prints, once: a pipe, to be read until its end, or the child will hang when it is full.
    pub fn take_stdout(&mut self) -> Option<File> {
        self.stdout.take()
    }

    /// What it prints as errors, as [`ChildProcess::take_stdout`].
    pub fn take_stderr(&mut self) -> Option<File> {
        self.stderr.take()
    }

    /// Waits until it has ended, at most for `timeout` (`None`: without end). Nothing when it lives on. When
    /// it has ended, all that it has left of its own children is killed before this returns.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        if wait_for_any(&[self.process.as_handle()], Deadline::after(timeout))?.is_none() {
            return Ok(None);
        }
        let code = exit_code(self.process.as_handle())?;
        if let Err(error) = self.job.terminate(KILLED) {
            log::debug!("killing what child {} has left: {error}", self.id);
        }
        Ok(Some(ExitStatus::from_raw(code)))
    }

    /// Asks it to end. Nothing happens when it has ended.
    ///
    /// # Errors
    ///
    /// None on Windows.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: an event that only a child hears that watches its parent
    /// ([`ParentChannel::watch`](crate::ParentChannel::watch)), as [`StopSignals`](crate::StopSignals) hears of
    /// Ctrl-C; without any, such a child ends (STATUS_CONTROL_C_EXIT). All others hear nothing.
    pub fn terminate(&self) -> io::Result<()> {
        self.end.set();
        Ok(())
    }

    /// Ends it, and all that it has started, at once. Nothing happens when it has ended.
    ///
    /// # Errors
    ///
    /// What the system says.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: TerminateJobObject, with the exit code 1.
    pub fn kill(&self) -> io::Result<()> {
        self.job.terminate(KILLED)
    }
}

/// A pipe for one child.
fn create_pipe(name: &PipeName, descriptor: &SecurityDescriptor) -> io::Result<OwnedHandle> {
    let pipe = pipe::create(name, descriptor, Instance::Only)?;
    // Wine ignores the flag for the first instance. Nobody can know the name.
    if pipe::instances(pipe.as_handle())? != 1 {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody else has the child's channel"));
    }
    Ok(pipe)
}

/// How long a killed child may take to end. It does so in any case.
const DYING: Duration = Duration::from_secs(1);

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            log::warn!("killing child {}: {error}", self.id);
        }
        match wait_for_any(&[self.process.as_handle()], Deadline::after(Some(DYING))) {
            Ok(Some(_)) => {}
            Ok(None) => log::warn!("child {} was killed and has not ended yet", self.id),
            Err(error) => log::debug!("waiting for child {}: {error}", self.id),
        }
    }
}

impl std::fmt::Debug for ChildProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChildProcess").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What these locks guard is whole at every moment, so a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
