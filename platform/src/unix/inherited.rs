//! The channel to the parent: the child's side.

use std::ffi::OsStr;
use std::io::{self, PipeReader, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use std::{env, thread};

use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Signal, getpgrp, getpid, kill_current_process_group, kill_process};
use socket2::Socket;

use super::channel::Channel;
use super::process::descriptor_limit;
use super::socket::{self, Strangers, Transport};
use super::stream::Stream;
use crate::inherited::{CHANNEL, GRACE, garbled, take_once};

/// The variable that tells the child of a pipe that ends when its parent has gone.
pub(super) const LIFELINE: &str = "SIDEWIRE_PARENT";

/// The channel that this process got from the one that started it; see
/// [`ChildProcess`](crate::ChildProcess). To be taken early: until then programs that this one
/// starts inherit it.
#[derive(Debug)]
pub struct ParentChannel {
    socket: Socket,
    parent: u32,
    /// Until it is watched.
    lifeline: Option<PipeReader>,
}

impl ParentChannel {
    /// Takes the channel; nothing if this process was not started with one. (A variable of the same name that comes
    /// from further up is not ours.)
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] when it was taken before, [`io::ErrorKind::InvalidData`] for a variable that
    /// makes no sense; what the system says.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: the descriptor that `SIDEWIRE_CHANNEL` names, if it is a socket and has the inode number
    /// that stands there. The variable stays, since others may be reading the environment. Windows:
    /// opens the pipe that it names, and removes it.
    pub fn take() -> io::Result<Option<ParentChannel>> {
        take_once(|| {
            let Some(socket) = adopt(CHANNEL, FileType::Socket)? else { return Ok(None) };
            let Some(lifeline) = adopt(LIFELINE, FileType::Fifo)? else {
                let text = format!("{CHANNEL} comes without {LIFELINE}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            };
            let parent = socket::parent(&socket).pid().unwrap_or_default();
            Ok(Some(ParentChannel { socket: socket.into(), parent, lifeline: Some(lifeline.into()) }))
        })
    }

    /// The process that has started this one; 0 if it can't be named from here.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: who made the channel (SO_PEERCRED, unix(7)), even if a shell is in between; where that is
    /// not told, the parent (getppid(2)).
    #[must_use]
    pub fn parent(&self) -> u32 {
        self.parent
    }

    /// A client's end. Its peer is the parent.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn into_channel(self) -> io::Result<Channel> {
        self.socket.set_nonblocking(false)?;
        let peer = socket::peer(&self.socket, Transport::Parent)?;
        Ok(Channel::with_peer(self.socket, peer))
    }

    /// A server's end. Its peer is the parent.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn into_stream(self) -> io::Result<Stream> {
        self.socket.set_nonblocking(true)?;
        Ok(Stream::new(self.socket.into(), Transport::Parent, Strangers::KeptOut))
    }

    /// Calls `on_death`, on a thread of its own, as soon as the parent has gone, however that came about
    /// and whatever this process is busy with. Half a second later this process ends, and with it all
    /// that it has started; what it started ends then even if this process has ended before.
    ///
    /// That the channel was closed is not the parent's death.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] when it is watched already; that there is no thread.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: the thread waits for the end of a pipe that the parent holds. What this process started and
    /// what left its process group lives on; of a process that does not lead its group (one that was
    /// started by way of a shell) only itself ends. Windows: the system ends this process and what it has
    /// started at once, by the parent's job object; only processes outside of it come to hear of the death.
    pub fn watch(&mut self, on_death: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        let Some(lifeline) = self.lifeline.take() else {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the parent is watched already"));
        };
        thread::Builder::new().name("sidewire-parent".into()).spawn(move || {
            wait_for_end(lifeline);
            end_within(GRACE, on_death)
        })?;
        Ok(())
    }
}

/// What the child is told of a descriptor that it gets.
pub(super) fn describe(end: &OwnedFd) -> io::Result<String> {
    Ok(format!("fd:{}:{}", end.as_raw_fd(), fstat(end)?.st_ino))
}

/// The descriptor that a variable names, if it is there and the one that was meant. From now on it is close-on-exec.
fn adopt(variable: &str, kind: FileType) -> io::Result<Option<OwnedFd>> {
    let Some(text) = env::var_os(variable) else { return Ok(None) };
    let (number, inode) = parse(&text).ok_or_else(|| garbled(variable, &text))?;
    // SAFETY: it is only asked about, and the system answers for numbers that are not open, too.
    let end = unsafe { BorrowedFd::borrow_raw(number) };
    let is_meant = match fstat(end) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode) == kind && stat.st_ino == inode,
        Err(Errno::BADF) => false,
        Err(error) => return Err(error.into()),
    };
    if !is_meant {
        log::debug!("{variable} is not meant for this process: {text:?}");
        return Ok(None);
    }
    fcntl_setfd(end, FdFlags::CLOEXEC)?;
    // SAFETY: the descriptor was inherited for this, and is taken once ([`take_once`]).
    Ok(Some(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// `fd:NUMBER:INODE`. The three standard streams are nobody's channel.
fn parse(text: &OsStr) -> Option<(i32, u64)> {
    let (number, inode) = text.to_str()?.strip_prefix("fd:")?.split_once(':')?;
    let number = number.parse().ok().filter(|&number| number > 2)?;
    Some((number, inode.parse().ok()?))
}

/// Returns when nobody has the writing end any more.
fn wait_for_end(mut lifeline: PipeReader) {
    loop {
        match lifeline.read(&mut [0]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return log::error!("the pipe that ends with the parent: {error}"),
        }
    }
}

/// Ends this process and its group when this time has passed.
fn end_within(grace: Duration, on_death: Box<dyn FnOnce() + Send>) {
    let leads = getpgrp() == getpid();
    if leads {
        start_guardian(grace);
    }
    if catch_unwind(AssertUnwindSafe(on_death)).is_err() {
        log::error!("a closure that was told of the parent's death has panicked");
    }
    thread::sleep(grace);
    let ended =
        if leads { kill_current_process_group(Signal::KILL) } else { kill_process(getpid(), Signal::KILL) };
    log::error!("this process lives on without its parent: {ended:?}");
}

/// Starts a process that kills our group when the time has come, should we have ended in order by
/// then and left something. It is in the group itself, so the group's number stays what it is. Signals
/// to the group neither end it nor wake it before its time.
fn start_guardian(grace: Duration) {
    let pause = libc::timespec {
        tv_sec: grace.as_secs() as libc::time_t,
        tv_nsec: grace.subsec_nanos() as libc::c_long,
    };
    let descriptors = i32::try_from(descriptor_limit()).unwrap_or(i32::MAX).min(1 << 16);
    let heard = block_signals();
    // SAFETY: what the new process does is async-signal-safe (fork(2), signal-safety(7)), and it
    // never returns.
    let forked = match unsafe { libc::fork() } {
        0 => guard(&pause, descriptors),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    };
    // SAFETY: the set was filled by `block_signals`, and outlives the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const heard, std::ptr::null_mut()) };
    if let Err(error) = forked {
        log::warn!("no process to end what this one leaves: {error}");
    }
}

/// Has this thread, and what is forked from it, hear no signal but SIGKILL and SIGSTOP. Gives the mask from before.
fn block_signals() -> libc::sigset_t {
    let mut sets = [MaybeUninit::<libc::sigset_t>::zeroed(); 2];
    let [all, before] = &mut sets;
    // SAFETY: both sets are locals that outlive the calls.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
    }
    // SAFETY: filled by the call; and a set of zeros is one, too.
    unsafe { before.assume_init() }
}

/// Holds nothing of ours open meanwhile: neither locks nor sockets.
fn guard(pause: &libc::timespec, descriptors: i32) -> ! {
    close_all(descriptors);
    // SAFETY: the pause outlives the call, and what is left of it is not asked for.
    unsafe { libc::nanosleep(pause, std::ptr::null_mut()) };
    // SAFETY: takes numbers; 0 is the group of the caller.
    unsafe { libc::kill(0, libc::SIGKILL) };
    // SAFETY: takes a number, and runs nothing of ours.
    unsafe { libc::_exit(0) }
}

fn close_all(descriptors: i32) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: takes numbers. Nothing in this process uses a descriptor any more.
        if unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) } == 0 {
            return;
        }
    }
    for number in 0..descriptors {
        // SAFETY: takes a number. Nothing in this process uses a descriptor any more.
        unsafe { libc::close(number) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_parent_writes_names_a_descriptor() {
        assert_eq!(parse(OsStr::new("fd:7:4711")), Some((7, 4711)));
        for text in
            ["", "fd:7", "fd:7:", "fd::1", "fd:2:1", "fd:-1:1", "fd:7:x", "fd:7:1:1", "pipe:7:1", " fd:7:1"]
        {
            assert_eq!(parse(OsStr::new(text)), None, "{text}");
        }
    }

    extern "C" fn heard(_signal: i32) {}

    /// As from whoever stops parent and child at once.
    #[test]
    fn a_signal_does_not_cut_the_grace_short() {
        // SAFETY: the new process makes system calls only, and never returns.
        let child = match unsafe { libc::fork() } {
            0 => be_stopped_and_orphaned(),
            child => child,
        };
        let mut status = 0;
        // SAFETY: the status is a local that outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 7, "{status:#x}");
    }

    fn be_stopped_and_orphaned() -> ! {
        let handler: extern "C" fn(i32) = heard;
        // SAFETY: take numbers; the handler does nothing.
        unsafe { (libc::setpgid(0, 0), libc::signal(libc::SIGTERM, handler as libc::sighandler_t)) };
        start_guardian(Duration::from_secs(3));
        thread::sleep(Duration::from_millis(200));
        // SAFETY: takes numbers; 0 is the group of the caller.
        unsafe { libc::kill(0, libc::SIGTERM) };
        thread::sleep(Duration::from_millis(500));
        // SAFETY: takes a number, and runs nothing of ours.
        unsafe { libc::_exit(7) }
    }
}
