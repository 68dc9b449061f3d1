//! Child processes that have a channel of their own: the parent's side.

use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd, retry_on_intr};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, waitid,
};
use socket2::{Domain, Socket, Type};

use super::channel::Channel;
use super::identity::euid;
use super::inherited::{LIFELINE, describe};
use super::socket;
use crate::deadline::{Backoff, Deadline};
use crate::inherited::CHANNEL;
use crate::peer::{Credentials, Peer, User};

/// A child process with a private channel, which nobody else can open. Dropping it kills the child and
/// all that it has started.
///
/// What may be called at any time from several threads takes `&self`: one can wait while another kills.
///
/// # Platform-specific behavior
///
/// Unix: the child leads a process group of its own (setpgid(2)), which is what signals go to; a
/// process that leaves that group is out of reach. The channel is one end of a socketpair(2), whose
/// other end only this child has: it is close-on-exec, but for a moment in the child alone, between
/// fork(2) and execve(2). The variable `SIDEWIRE_CHANNEL` of the child is `fd:NUMBER:INODE`, and
/// `SIDEWIRE_PARENT` the same of a pipe that ends with this process, and with those that were forked from it and run no
/// other program. Systems without SOCK_CLOEXEC (macOS) leave a moment in
/// which a child that other code starts may get them, too.
///
/// Who ignores SIGCHLD, or waits for all children at once (`waitpid(-1, …)`), takes the child's status
/// away: then [`ChildProcess::wait`] says so (ECHILD), and nothing is signalled any more.
#[derive(Debug)]
pub struct ChildProcess {
    pid: Pid,
    /// Readable when it has ended, where the system has such descriptors (pidfd_open(2)).
    pidfd: Option<OwnedFd>,
    state: Mutex<State>,
    /// Until somebody takes it.
    channel: Mutex<Option<Channel>>,
    stdout: Option<File>,
    stderr: Option<File>,
    /// Nobody writes to it: it ends with us, which tells the child that we have gone.
    _lifeline: Option<PipeWriter>,
}

#[derive(Debug)]
enum State {
    /// Nobody has waited for it: the number is its own, and that of its group.
    Own(Child),
    Ended(ExitStatus),
    /// Other code has.
    Lost,
}

impl ChildProcess {
    /// Starts a program. Its standard input is empty; what it prints can be had by
    /// [`ChildProcess::take_stdout`] and [`ChildProcess::take_stderr`]. What the command says about
    /// these three, its process group and the variables named above is overwritten, and stays so. It
    /// can be used again.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] and [`io::ErrorKind::PermissionDenied`] about the program; what the
    /// system says, for example that there are no more descriptors or processes.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: with fork(2) and execve(2), as [`Command::spawn`]. Windows: with the command's program,
    /// arguments, environment and folder; the rest is lost.
    pub fn spawn(command: &mut Command) -> io::Result<ChildProcess> {
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
        socket::refuse_descriptors(&near);
        socket::refuse_descriptors(&far);
        let (watched, lifeline) = io::pipe()?;
        let ends = [beyond_standard(&far)?, beyond_standard(&watched)?];
        command
            .env(CHANNEL, describe(&ends[0])?)
            .env(LIFELINE, describe(&ends[1])?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let handing = Handing::over(command, ends);
        let child = command.spawn()?;
        drop(handing);

        Ok(ChildProcess::of(child, near, Some(lifeline)))
    }

    /// Starts a program whose standard input and output are the channel, so that it need not know of us. What it prints
    /// as errors can be had by [`ChildProcess::take_stderr`], and there is no [`ChildProcess::take_stdout`]. Otherwise as
    /// [`ChildProcess::spawn`]; the variables named there are removed from the command.
    ///
    /// The child sees the end of its input when the channel is shut down, or has gone with this process.
    ///
    /// # Errors
    ///
    /// As [`ChildProcess::spawn`].
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: both are one end of a socketpair(2), so the channel ends when the child has closed both, and a path that
    /// leads to them (`/dev/stdin`) can't be opened. Windows: two anonymous pipes, and two threads that copy between them and
    /// the channel.
    pub fn spawn_on_standard(command: &mut Command) -> io::Result<ChildProcess> {
        let (near, far) = Socket::pair(Domain::UNIX, Type::STREAM, None)?;
        socket::refuse_descriptors(&near);
        socket::refuse_descriptors(&far);
        let input = OwnedFd::from(far);
        let output = input.try_clone()?;
        command
            .env_remove(CHANNEL)
            .env_remove(LIFELINE)
            .stdin(input)
            .stdout(output)
            .stderr(Stdio::piped())
            .process_group(0);
        let child = command.spawn();
        // A command keeps what it has given, and the channel would not end with the child.
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(ChildProcess::of(child?, near, None))
    }

    fn of(mut child: Child, near: Socket, lifeline: Option<PipeWriter>) -> ChildProcess {
        let pid = Pid::from_child(&child);
        let credentials = Credentials::new(User::Uid(euid()), Some(child.id()), None);
        let channel = Channel::with_peer(near, Peer::new(Some(credentials), None));
        ChildProcess {
            pid,
            pidfd: pidfd_of(pid),
            stdout: child.stdout.take().map(|pipe| OwnedFd::from(pipe).into()),
            stderr: child.stderr.take().map(|pipe| OwnedFd::from(pipe).into()),
            state: Mutex::new(State::Own(child)),
            channel: Mutex::new(Some(channel)),
            _lifeline: lifeline,
        }
    }

    /// The process id. Nobody else gets it before [`ChildProcess::wait`] has said that the child has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// The channel, once. The peer is the child, and the user our own.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] when it was taken before; [`io::ErrorKind::TimedOut`] when the child
    /// did not come for it in time; [`io::ErrorKind::BrokenPipe`] when it has ended instead.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: it is there from the start, even when the child never asks for its end. Windows: waits
    /// for the child to open it.
    pub fn channel(&self, timeout: Option<Duration>) -> io::Result<Channel> {
        let _ = timeout;
        lock(&self.channel).take().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the channel of this child was taken before")
        })
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
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: a wait in poll(2), or where there are no pidfds (Linux before 5.3, other systems) a
    /// look every few milliseconds.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Option<ExitStatus>> {
        let deadline = Deadline::after(timeout);
        let mut backoff = Backoff::until(deadline);
        loop {
            let is_last = deadline.has_passed();
            if let Some(pidfd) = &self.pidfd {
                wait_for(pidfd.as_fd(), deadline)?;
            }
            match self.reap()? {
                None if is_last => return Ok(None),
                None => _ = backoff.pause(),
                status => return Ok(status),
            }
        }
    }

    /// Takes the status, if it has ended. Its group goes first: as long as nobody has waited for its
    /// leader, the group's number can't be anybody else's.
    fn reap(&self) -> io::Result<Option<ExitStatus>> {
        let mut state = lock(&self.state);
        let child = match &mut *state {
            State::Own(child) => child,
            State::Ended(status) => return Ok(Some(*status)),
            State::Lost => return Err(Errno::CHILD.into()),
        };
        match has_ended(self.pid) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                if error == Errno::CHILD {
                    *state = State::Lost;
                }
                return Err(error.into());
            }
        }
        if let Err(error) = signal(self.pid, Signal::KILL) {
            log::debug!("killing what child {} has left: {error}", self.pid);
        }
        let status = child.wait()?;
        *state = State::Ended(status);
        Ok(Some(status))
    }

    /// Asks it, and all that it has started, to end. Nothing happens when it has ended.
    ///
    /// # Errors
    ///
    /// What the system says, as about a program that runs as somebody else.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: SIGTERM, and SIGCONT for one that was stopped. Windows: an event that only a child hears that
    /// watches its parent ([`ParentChannel::watch`](crate::ParentChannel::watch)), as
    /// [`StopSignals`](crate::StopSignals) hears of Ctrl-C; without any, such a child ends.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal_own(&[Signal::TERM, Signal::CONT])
    }

    /// Ends it, and all that it has started, at once. Nothing happens when it has ended.
    ///
    /// # Errors
    ///
    /// What the system says.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: SIGKILL. Windows: TerminateJobObject.
    pub fn kill(&self) -> io::Result<()> {
        self.signal_own(&[Signal::KILL])
    }

    /// Under the lock, so that nobody waits for it meanwhile, and its number stays its own.
    fn signal_own(&self, signals: &[Signal]) -> io::Result<()> {
        let mut state = lock(&self.state);
        if !matches!(*state, State::Own(_)) {
            return Ok(());
        }
        match has_ended(self.pid) {
            Err(Errno::CHILD) => *state = State::Lost,
            Err(error) => return Err(error.into()),
            Ok(_) => signals.iter().try_for_each(|one| signal(self.pid, *one))?,
        }
        Ok(())
    }
}

/// How long a killed child may take to end before others wait for it.
const DYING: Duration = Duration::from_secs(1);

/// No zombie stays: a child that can't be killed just now is waited for on a thread.
impl Drop for ChildProcess {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            log::warn!("killing child {}: {error}", self.id());
        }
        match self.wait(Some(DYING)) {
            Ok(Some(_)) => return,
            Ok(None) => log::warn!("child {} was killed and has not ended yet", self.id()),
            Err(error) => log::debug!("waiting for child {}: {error}", self.id()),
        }
        if let State::Own(mut child) = std::mem::replace(&mut *lock(&self.state), State::Lost) {
            let late = thread::Builder::new().name("sidewire-reaper".into()).spawn(move || child.wait());
            if let Err(error) = late {
                log::warn!("child {} stays as a zombie: {error}", self.id());
            }
        }
    }
}

/// The ends that a child is to have, for as long as it is being started.
struct Handing {
    _ends: [OwnedFd; 2],
    /// Their numbers. A command keeps what it was told to do, so what it does has to end with us.
    numbers: Arc<[AtomicI32; 2]>,
}

/// No descriptor.
const NONE: i32 = -1;

impl Handing {
    /// Lets what the command starts keep the ends.
    fn over(command: &mut Command, ends: [OwnedFd; 2]) -> Handing {
        let numbers = Arc::new([0, 1].map(|index: usize| AtomicI32::new(ends[index].as_raw_fd())));
        let keep = {
            let numbers = Arc::clone(&numbers);
            move || numbers.iter().try_for_each(|number| keep_open(number.load(Ordering::Relaxed)))
        };
        // SAFETY: between fork and exec this loads numbers and calls fcntl(2), which is
        // async-signal-safe (signal-safety(7)); it neither allocates nor locks.
        unsafe { command.pre_exec(keep) };
        Handing { _ends: ends, numbers }
    }
}

impl Drop for Handing {
    fn drop(&mut self) {
        self.numbers.iter().for_each(|number| number.store(NONE, Ordering::Relaxed));
    }
}

/// Clears close-on-exec. Runs in the child, before it has become its program.
fn keep_open(number: i32) -> io::Result<()> {
    if number == NONE {
        return Ok(());
    }
    // SAFETY: the parent holds the descriptor until the child has become its program, so here it is open.
    let end = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(fcntl_setfd(end, FdFlags::empty())?)
}

/// A copy, close-on-exec, that is not where the child will have its standard streams, as it may be in a
/// process that has closed its own.
fn beyond_standard(end: impl AsFd) -> io::Result<OwnedFd> {
    const FIRST: i32 = 3;
    Ok(fcntl_dupfd_cloexec(end, FIRST)?)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn pidfd_of(pid: Pid) -> Option<OwnedFd> {
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn pidfd_of(_pid: Pid) -> Option<OwnedFd> {
    None
}

/// Waits until the process has ended, or the deadline has passed.
fn wait_for(pidfd: BorrowedFd<'_>, deadline: Deadline) -> io::Result<()> {
    // A wait too long for the system's clock is as good as one without end.
    let timeout = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
    match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a child has ended; nobody has waited for it yet. ECHILD if somebody has.
fn has_ended(pid: Pid) -> rustix::io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(retry_on_intr(|| waitid(WaitId::Pid(pid), options))?.is_some())
}

/// Signals a child's group, and itself should it have left that, be there others in the group or not. That
/// there is nobody is as good.
fn signal(pid: Pid, signal: Signal) -> rustix::io::Result<()> {
    let group = match kill_process_group(pid, signal) {
        Err(Errno::SRCH) => Ok(()),
        // On macOS, of a group in which only a zombie is left.
        Err(Errno::PERM) if has_ended(pid)? => Ok(()),
        other => other,
    };
    // Killing twice does no harm, and leaves no moment for going to and fro.
    if signal == Signal::KILL || getpgid(Some(pid)) != Ok(pid) {
        match kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error),
        }
    }
    group
}

/// What these locks guard is whole at every moment, so a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    const LONG: Option<Duration> = Some(Duration::from_secs(30));

    fn spawn(script: &str) -> ChildProcess {
        ChildProcess::spawn(Command::new("sh").args(["-c", script])).unwrap()
    }

    /// As on macOS, and on Linux before 5.3.
    #[test]
    fn without_a_pidfd_it_is_waited_for_as_well() {
        let mut child = spawn("sleep 0.1; exit 3");
        child.pidfd = None;
        assert_eq!(child.wait(Some(Duration::ZERO)).unwrap(), None);
        assert_eq!(child.wait(LONG).unwrap().unwrap().code(), Some(3));
        let mut child = spawn("sleep 600");
        child.pidfd = None;
        assert_eq!(child.wait(Some(Duration::from_millis(20))).unwrap(), None);
        child.kill().unwrap();
        assert_eq!(child.wait(LONG).unwrap().unwrap().signal(), Some(libc::SIGKILL));
    }

    /// Whom a signal to the group then reaches is not the child.
    #[test]
    fn one_that_has_left_its_group_and_somebody_there_is_signalled_as_well() {
        for signal in [Signal::TERM, Signal::KILL] {
            let mut command = Command::new("sleep");
            command.arg("600");
            // SAFETY: makes system calls only, between fork and exec.
            unsafe { command.pre_exec(leave_group_to_another) };
            let child = ChildProcess::spawn(&mut command).unwrap();
            assert_ne!(getpgid(Some(child.pid)), Ok(child.pid));
            child.signal_own(&[signal]).unwrap();
            let status = child.wait(LONG).unwrap().unwrap();
            assert_eq!(status.signal(), Some(signal.as_raw()));
        }
    }

    fn leave_group_to_another() -> io::Result<()> {
        // SAFETY: the new process does nothing but become another program, or end.
        match unsafe { libc::fork() } {
            -1 => return Err(io::Error::last_os_error()),
            0 => {
                let arguments = [c"sleep".as_ptr(), c"600".as_ptr(), std::ptr::null()];
                // SAFETY: the texts end with a NUL, the list with a null pointer.
                unsafe { libc::execvp(arguments[0], arguments.as_ptr()) };
                // SAFETY: takes a number, and runs nothing of ours.
                unsafe { libc::_exit(1) }
            }
            _ => {}
        }
        // SAFETY: take and give numbers.
        match unsafe { libc::setpgid(0, libc::getpgid(libc::getppid())) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Its number may be anybody's then.
    #[test]
    fn one_that_other_code_has_waited_for_is_let_alone() {
        let child = spawn("exit 3");
        rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty()).unwrap();
        child.kill().unwrap();
        assert!(matches!(*lock(&child.state), State::Lost));
        child.terminate().unwrap();
        for _ in 0..2 {
            assert_eq!(child.wait(LONG).unwrap_err().raw_os_error(), Some(libc::ECHILD));
        }
        let child = spawn("exit 3");
        rustix::process::waitpid(Some(child.pid), rustix::process::WaitOptions::empty()).unwrap();
        assert_eq!(child.wait(LONG).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }
}
