//! The process that serves at the other end of a channel, held so that no other is taken for it.

use std::io;
use std::time::Duration;

use super::channel::Channel;
use crate::peer::User;

#[cfg(any(target_os = "linux", target_os = "android"))]
use linux as system;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use none as system;

/// A process of which more is to be learned with the first bytes that come from it.
#[derive(Debug)]
pub struct ExpectedProcess(());

impl ExpectedProcess {
    /// Has the system tell which process serves there. Before the first byte is sent.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where nobody can tell: on TCP, and on other systems than Linux and
    /// Windows.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix (Linux): the channel asks for the sender of what comes (SO_PASSCRED, unix(7)); who has called listen(2)
    /// may be somebody else, such as a service manager. Windows: the process that has made the pipe's instance, which
    /// is told and held at once.
    pub fn at(channel: &Channel) -> io::Result<ExpectedProcess> {
        system::ask(channel).map(ExpectedProcess)
    }

    /// Waits for the first byte, and says who has sent it; the channel still has it.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when nothing came in time: this may be called again.
    /// [`io::ErrorKind::BrokenPipe`] when the channel has ended without a byte.
    /// [`io::ErrorKind::NotFound`] when that process is out of sight (pid_namespaces(7)).
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: does not wait.
    pub fn meet(&self, channel: &Channel, timeout: Option<Duration>) -> io::Result<ForeignProcess> {
        system::meet(channel, timeout)
    }
}

/// A process that others have started. What is held is the process, not its number, which may be another's when it
/// has ended.
#[derive(Debug)]
pub struct ForeignProcess {
    pid: u32,
    user: User,
    process: system::Process,
}

impl ForeignProcess {
    /// How it is asked to end, for messages.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: `SIGTERM`. Windows: `stop event`.
    pub const REQUEST: &'static str = "SIGTERM";

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Whose it is.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: the real user of the process. Windows: the owner of the pipe.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Asks it to end. Nothing happens when it has ended.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::PermissionDenied`] if it is somebody else's.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: SIGTERM. Windows: an event for which processes wait that have a [`StopSignals`](crate::StopSignals);
    /// [`io::ErrorKind::Unsupported`] for others.
    pub fn ask_to_end(&self) -> io::Result<()> {
        system::ask_to_end(&self.process)
    }

    /// Waits for its end (`None`: however long that takes), and says whether it has come.
    ///
    /// # Errors
    ///
    /// What the system says.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: it has ended even if its parent has not looked yet; its program's file is in use no more.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        system::wait(&self.process, timeout)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::fs;
    use std::mem;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, RecvFlags, sockopt};
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    use super::super::message;
    use super::*;
    use crate::deadline::Deadline;

    /// `None`: it had ended when it was looked for.
    pub(super) type Process = Option<OwnedFd>;

    /// Not in libc 0.2 yet: asm-generic/socket.h, which only SPARC differs from. From Linux 6.5 on.
    const SO_PASSPIDFD: libc::c_int =
        if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) { 0x55 } else { 76 };
    const SCM_PIDFD: libc::c_int = 4;

    pub(super) fn ask(channel: &Channel) -> io::Result<()> {
        if sockopt::socket_domain(channel.descriptor())? != AddressFamily::UNIX {
            let text = "nobody tells which process serves there";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Ok(sockopt::set_socket_passcred(channel.descriptor(), true)?)
    }

    pub(super) fn meet(channel: &Channel, timeout: Option<Duration>) -> io::Result<ForeignProcess> {
        if !is_ready(channel.descriptor(), timeout)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let first = message::receive(channel.descriptor(), &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
        if first.length == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let Some((sender, pid)) = first.credentials.and_then(|sender| sender.pid().map(|pid| (sender, pid)))
        else {
            let text = "the server's process can't be seen from here";
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        };
        let process = match pidfd_of_sender(channel.descriptor()) {
            Err(Errno::NOPROTOOPT) => pidfd_of(pid)?,
            Err(Errno::SRCH) => None,
            sent => Some(sent?),
        };
        Ok(ForeignProcess { pid, user: sender.user().clone(), process })
    }

    pub(super) fn ask_to_end(process: &Process) -> io::Result<()> {
        match process.as_ref().map_or(Ok(()), |process| pidfd_send_signal(process, Signal::TERM)) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn wait(process: &Process, timeout: Option<Duration>) -> io::Result<bool> {
        process.as_ref().map_or(Ok(true), |process| is_ready(process.as_fd(), timeout))
    }

    /// Whether it can be read in time: bytes or the end of a socket; the end of a process (pidfd_open(2)).
    fn is_ready(descriptor: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<bool> {
        let deadline = Deadline::after(timeout);
        loop {
            let is_last = deadline.has_passed();
            // A wait too long for the system's clock is as good as one without end.
            let timeout = deadline.remaining().and_then(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) if is_last => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The process that has sent the byte that waits, by the system's own reference to it.
    fn pidfd_of_sender(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        // Alone, so that nothing but that can come (see `message`).
        sockopt::set_socket_passcred(socket, false)?;
        set_passpidfd(socket)?;
        peek_pidfd(socket)
    }

    fn set_passpidfd(socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let on: libc::c_int = 1;
        // SAFETY: `on` is a local int, and its size is given; the socket is borrowed, so open.
        let status = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PASSPIDFD,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if status == 0 { Ok(()) } else { Err(last_error()) }
    }

    fn last_error() -> Errno {
        Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
    }

    /// Room for one control message (cmsg(3)) of one int: `size_t length, int level, int type, int`.
    #[repr(C, align(8))]
    struct Control([u8; rustix::cmsg_aligned_space!(ScmRights(1))]);

    #[allow(clippy::unnecessary_cast)] // The length has other types with other C libraries.
    fn peek_pidfd(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        const WHOLE: usize = size_of::<usize>() + 3 * size_of::<libc::c_int>();
        let (mut byte, mut control) = ([0u8; 1], Control([0; _]));
        let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
        // SAFETY: msghdr is integers and pointers, for all of which zero is a value.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: `header` and all that it points to are locals that outlive the call, with their real lengths;
        // the socket is borrowed, so open.
        if unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) } < 0 {
            return Err(last_error());
        }
        let Some((length, rest)) = control.0.get(..WHOLE).and_then(|whole| whole.split_first_chunk()) else {
            return Err(Errno::IO);
        };
        let mut fields = rest.chunks_exact(4).map(|field| field.try_into().map_or(0, i32::from_ne_bytes));
        let fields = [(); 3].map(|()| fields.next().unwrap_or(-1));
        let is_whole = header.msg_controllen as usize >= WHOLE && usize::from_ne_bytes(*length) == WHOLE;
        match fields {
            [libc::SOL_SOCKET, kind @ (SCM_PIDFD | libc::SCM_RIGHTS), number] if is_whole && number >= 0 => {
                // SAFETY: the system has opened it for us with this call, and nobody else knows of it.
                let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                // What the sender has attached instead is closed.
                if kind == SCM_PIDFD { Ok(descriptor) } else { Err(Errno::IO) }
            }
            // It has ended, and its parent has looked.
            _ => Err(Errno::SRCH),
        }
    }

    /// The same by its number, from before Linux 6.5. A process that began only after the byte was there is another
    /// one: the number was used again.
    fn pidfd_of(pid: u32) -> io::Result<Option<OwnedFd>> {
        let now = uptime()?;
        let number = Pid::from_raw(pid.cast_signed()).ok_or(io::ErrorKind::NotFound)?;
        let process = match pidfd_open(number, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            opened => opened?,
        };
        let began = match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::SRCH) => return Ok(None),
            stat => started(&stat?).ok_or(io::ErrorKind::InvalidData)?,
        };
        Ok(Some(process).filter(|_| began <= now))
    }

    /// What processes' times are counted in (USER_HZ, proc(5)).
    const TICKS: f64 = 100.0;

    /// Since the system's start, in ticks.
    fn uptime() -> io::Result<u64> {
        let text = fs::read_to_string("/proc/uptime")?;
        let seconds = text.split(' ').next().and_then(|seconds| seconds.parse::<f64>().ok());
        seconds
            .map(|seconds| (seconds * TICKS).round() as u64)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// When a process began, by its /proc/PID/stat (proc(5)).
    fn started(stat: &str) -> Option<u64> {
        const STARTTIME: usize = 22;
        // Its name, the second field, may hold anything.
        let (_, behind) = stat.rsplit_once(')')?;
        behind.split_ascii_whitespace().nth(STARTTIME - 3)?.parse().ok()
    }

    #[cfg(test)]
    mod tests {
        use std::io::{Read, Write};
        use std::os::unix::net::UnixListener;
        use std::process::{Command, Stdio};

        use super::*;
        use crate::endpoint::Endpoint;

        const LONG: Option<Duration> = Some(Duration::from_secs(60));

        /// A channel to a socket that we have called listen(2) on, and what is accepted there.
        fn channel() -> (Channel, std::os::unix::net::UnixStream) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let listener = UnixListener::bind(&path).unwrap();
            let channel = Channel::connect(&Endpoint::Unix(path), LONG).unwrap();
            (channel, listener.accept().unwrap().0)
        }

        /// Not the one that has called listen(2).
        #[test]
        fn whoever_sends_is_met_and_asked_to_end() {
            let (channel, accepted) = channel();
            let expected = ExpectedProcess::at(&channel).unwrap();
            let early = expected.meet(&channel, Some(Duration::ZERO)).unwrap_err();
            assert_eq!(early.kind(), io::ErrorKind::TimedOut);
            let mut child = Command::new("sh")
                .args(["-c", "echo x; exec sleep 600"])
                .stdout(OwnedFd::from(accepted))
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            let process = expected.meet(&channel, LONG).unwrap();
            assert_eq!(process.id(), child.id());
            assert_eq!(*process.user(), crate::current_user().unwrap());
            let mut bytes = [0; 8];
            assert_eq!(channel.recv(&mut bytes, LONG).unwrap(), 2, "the byte is still there");
            assert!(!process.wait(Some(Duration::ZERO)).unwrap());
            process.ask_to_end().unwrap();
            assert!(process.wait(LONG).unwrap(), "though it is not waited for");
            assert!(!child.wait().unwrap().success());
            process.ask_to_end().unwrap();
            assert!(process.wait(LONG).unwrap());
        }

        #[test]
        fn one_that_has_ended_since_has_ended() {
            let (channel, accepted) = channel();
            let expected = ExpectedProcess::at(&channel).unwrap();
            let status = Command::new("echo").arg("x").stdout(OwnedFd::from(accepted)).status().unwrap();
            assert!(status.success());
            assert!(expected.meet(&channel, LONG).unwrap().wait(Some(Duration::ZERO)).unwrap());
        }

        #[test]
        fn an_end_without_a_word_is_told_so() {
            let (channel, mut accepted) = channel();
            let expected = ExpectedProcess::at(&channel).unwrap();
            channel.send(b"hello", LONG).unwrap();
            accepted.read_exact(&mut [0; 5]).unwrap();
            drop(accepted);
            assert_eq!(expected.meet(&channel, LONG).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }

        /// It would be taken for the pidfd.
        #[test]
        fn descriptors_that_come_along_are_not_the_process() {
            let (channel, accepted) = channel();
            ExpectedProcess::at(&channel).unwrap();
            sockopt::set_socket_passcred(channel.descriptor(), false).unwrap();
            let null = fs::File::open("/dev/null").unwrap();
            let mut space = [mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
            let descriptors = [null.as_fd()];
            assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&descriptors)));
            let bytes = [io::IoSlice::new(b"x")];
            let flags = rustix::net::SendFlags::empty();
            // Newer kernels let nobody send any to us.
            if rustix::net::sendmsg(&accepted, &bytes, &mut control, flags).is_ok() {
                assert!(is_ready(channel.descriptor(), LONG).unwrap());
                assert!(peek_pidfd(channel.descriptor()).is_err());
            }
            drop(accepted);
        }

        #[test]
        fn the_number_alone_is_believed_of_those_who_were_there() {
            let mut child = Command::new("sleep").arg("600").spawn().unwrap();
            let process = pidfd_of(child.id()).unwrap().unwrap();
            assert!(!is_ready(process.as_fd(), Some(Duration::ZERO)).unwrap());
            child.kill().unwrap();
            assert!(is_ready(process.as_fd(), LONG).unwrap());
            child.wait().unwrap();
            assert!(pidfd_of(child.id()).unwrap().is_none());
            let now = uptime().unwrap();
            let stat = format!("7 (a ) b) S 1{} 0 {now} 0 0", " 0".repeat(16));
            assert_eq!(started(&stat), Some(now));
            assert_eq!(started("7 (a"), None);
        }

        #[test]
        fn of_tcp_nobody_knows() {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = format!("tcp:{}", listener.local_addr().unwrap()).parse().unwrap();
            let channel = Channel::connect(&endpoint, LONG).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            let error = ExpectedProcess::at(&channel).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            accepted.write_all(b"x").unwrap();
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod none {
    use super::*;

    /// There is none.
    #[derive(Debug)]
    pub(super) enum Process {}

    pub(super) fn ask(_channel: &Channel) -> io::Result<()> {
        let text = "this system does not tell which process serves there";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    pub(super) fn meet(_channel: &Channel, _timeout: Option<Duration>) -> io::Result<ForeignProcess> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn ask_to_end(process: &Process) -> io::Result<()> {
        match *process {}
    }

    pub(super) fn wait(process: &Process, _timeout: Option<Duration>) -> io::Result<bool> {
        match *process {}
    }
}
