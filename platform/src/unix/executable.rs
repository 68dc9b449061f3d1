//! Which program a process runs, as the file that it was started from.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(any(target_os = "linux", target_os = "android"))]
use linux as system;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
use none as system;

pub(super) use system::of_peer;

/// The file of a program, held so that no other file gets its number meanwhile.
#[derive(Debug)]
pub struct Executable {
    path: PathBuf,
    file: system::File,
}

impl Executable {
    /// Whether the system tells of a peer which program it runs.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] if not; the text says what it takes.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: Linux from 6.5 on, over Unix sockets (SO_PEERPIDFD). Windows: over pipes.
    pub fn can_be_told() -> io::Result<()> {
        system::can_be_told()
    }

    /// The file at this path, which is absolute, and at whose end symbolic links are followed.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] if it is no file, or the path is relative; what the system says.
    pub fn at(path: &Path) -> io::Result<Executable> {
        if !path.is_absolute() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the path of a program is to be absolute",
            ));
        }
        Ok(Executable { file: system::open(path)?, path: path.to_owned() })
    }

    /// The program that this process runs; its path is the one that it had when it was started.
    ///
    /// # Errors
    ///
    /// What the system says: for example, that there is no /proc.
    pub fn own() -> io::Result<Executable> {
        system::own()
    }

    /// Where it is, or was when it was started. Of a peer's, for messages only.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is the same file, by whatever path.
    ///
    /// # Platform-specific behavior
    ///
    /// Unix: device and inode. Windows: the volume's serial number and the file's id of 128 bits.
    #[must_use]
    pub fn is_same(&self, other: &Executable) -> bool {
        self.file.is_same(&other.file)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::ffi::OsString;
    use std::fs;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::net::UnixStream;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, open as open_file, readlink, statx};
    use rustix::io::Errno;

    use super::*;

    /// A file, and the handle that holds it.
    #[derive(Debug)]
    pub(super) struct File {
        handle: OwnedFd,
        /// Major and minor number.
        device: (u32, u32),
        inode: u64,
    }

    impl File {
        /// Of a handle that was opened with O_PATH.
        fn of(handle: OwnedFd) -> io::Result<File> {
            // Not to be asked of whoever makes the file system: that could be the peer (fuse(4)), and take its time.
            let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
            let found = statx(&handle, "", flags, StatxFlags::TYPE | StatxFlags::INO)?;
            if FileType::from_raw_mode(found.stx_mode.into()) != FileType::RegularFile {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "that is no file"));
            }
            let device = (found.stx_dev_major, found.stx_dev_minor);
            Ok(File { handle, device, inode: found.stx_ino })
        }

        pub(super) fn is_same(&self, other: &File) -> bool {
            (self.device, self.inode) == (other.device, other.inode)
        }

        /// Where it is, as far as the system knows.
        fn path(&self) -> io::Result<PathBuf> {
            let link = readlink(format!("/proc/self/fd/{}", self.handle.as_raw_fd()), Vec::new())?;
            Ok(OsString::from_vec(link.into_bytes()).into())
        }
    }

    pub(super) fn can_be_told() -> io::Result<()> {
        pidfd_of_peer(UnixStream::pair()?.0.as_fd()).map(|_| ())
    }

    pub(super) fn open(path: &Path) -> io::Result<File> {
        File::of(open_file(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    }

    pub(super) fn own() -> io::Result<Executable> {
        let file = open(Path::new("/proc/self/exe"))?;
        let path = file.path()?;
        Ok(Executable { path: without_note(&path, &file), file })
    }

    /// Of a file that has another in its place the system says ` (deleted)` behind the path (proc(5)).
    fn without_note(path: &Path, file: &File) -> PathBuf {
        let is_there = open(path).is_ok_and(|found| found.is_same(file));
        match path.as_os_str().as_bytes().strip_suffix(b" (deleted)") {
            Some(bytes) if !is_there => OsString::from_vec(bytes.to_vec()).into(),
            _ => path.to_owned(),
        }
    }

    /// The program of whoever has called connect(2) or listen(2) at the other end.
    ///
    /// Its number may be another's at any time; the descriptor is the process itself. So as long as that says behind the
    /// look that the process lives, the look was at it.
    pub(in super::super) fn of_peer(socket: impl AsFd) -> io::Result<Executable> {
        let process = pidfd_of_peer(socket.as_fd())?;
        let pid = number_of(process.as_fd())?;
        let link = format!("/proc/{pid}/exe");
        let handle = open_file(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        if has_ended(process.as_fd())? {
            return Err(gone());
        }
        let file = File::of(handle.map_err(|error| unseen(pid, error))?)?;
        Ok(Executable { path: file.path()?, file })
    }

    /// SO_PEERPIDFD (linux/net/core/sock.c): a descriptor of the process that SO_PEERCRED names (unix(7)).
    fn pidfd_of_peer(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        /// Not in libc 0.2 yet: asm-generic/socket.h, which only SPARC differs from. From Linux 6.5 on.
        const SO_PEERPIDFD: libc::c_int =
            if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) { 0x56 } else { 77 };
        let mut number: libc::c_int = -1;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: `number` and `length` are locals that outlive the call, `length` is the size of `number`; the socket
        // is borrowed, so open.
        let status = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERPIDFD,
                (&raw mut number).cast(),
                &raw mut length,
            )
        };
        if status != 0 {
            let error = io::Error::last_os_error();
            return Err(match Errno::from_io_error(&error) {
                Some(Errno::NOPROTOOPT) => {
                    let text = "the system does not tell which program a peer runs: that takes Linux 6.5 (SO_PEERPIDFD)";
                    io::Error::new(io::ErrorKind::Unsupported, text)
                }
                // The second: before Linux 6.16.
                Some(Errno::SRCH | Errno::INVAL) => gone(),
                _ => error,
            });
        }
        if number < 0 {
            return Err(gone());
        }
        // SAFETY: the system has opened it for us with this call, and nobody else knows of it.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// What the process is called in the /proc that we see (pidfd_open(2), fdinfo): -1 if it has ended and
    /// somebody has looked, 0 if it is outside of it (pid_namespaces(7)).
    fn number_of(process: BorrowedFd<'_>) -> io::Result<u32> {
        let text = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", process.as_raw_fd()))?;
        match pid_in(&text) {
            Some(0) => {
                let text = "its process can't be seen from here: it is in another pid namespace";
                Err(io::Error::new(io::ErrorKind::NotFound, text))
            }
            Some(pid) => u32::try_from(pid).map_err(|_| gone()),
            None => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the system does not tell its process id"))
            }
        }
    }

    fn pid_in(fdinfo: &str) -> Option<i32> {
        fdinfo.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
    }

    /// As poll(2) says of a process (pidfd_open(2)).
    fn has_ended(process: BorrowedFd<'_>) -> io::Result<bool> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready =
            rustix::io::retry_on_intr(|| poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&now)));
        Ok(ready? > 0)
    }

    fn gone() -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, "its process has ended")
    }

    /// That there is no such file can't be said of a process that runs one, unless we may not know of it.
    fn unseen(pid: u32, error: Errno) -> io::Error {
        let text = match error {
            Errno::ACCESS | Errno::PERM | Errno::NOENT => format!(
                "the system does not let us see which program pid {pid} runs ({error}): that takes the same user and a \
                 process without privileges of its own, or root (ptrace(2), PTRACE_MODE_READ_FSCREDS)"
            ),
            error => return error.into(),
        };
        io::Error::new(io::ErrorKind::PermissionDenied, text)
    }

    #[cfg(test)]
    mod tests {
        use std::os::unix::net::UnixListener;
        use std::process::{Command, Stdio};

        use super::*;

        #[test]
        fn a_pair_is_our_own_program() {
            can_be_told().unwrap();
            let (near, _far) = UnixStream::pair().unwrap();
            let (own, peer) = (Executable::own().unwrap(), of_peer(&near).unwrap());
            assert!(own.is_same(&peer) && own.path() == std::env::current_exe().unwrap());
            assert!(Executable::at(own.path()).unwrap().is_same(&own));
            assert!(!Executable::at(Path::new("/proc/self/maps")).unwrap().is_same(&own));
        }

        #[test]
        fn what_is_no_program_is_none() {
            for path in ["sh", "/proc"] {
                let error = Executable::at(Path::new(path)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}: {error}");
            }
            assert_eq!(Executable::at(Path::new("/nowhere")).unwrap_err().kind(), io::ErrorKind::NotFound);
        }

        /// Whoever has the socket now.
        #[test]
        fn the_one_who_has_connected_is_looked_at_until_it_has_ended() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let listener = UnixListener::bind(&path).unwrap();
            let connect = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()";
            let mut child = Command::new("python3")
                .args(["-c", connect])
                .arg(&path)
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let peer = of_peer(&accepted).unwrap();
            let theirs = Executable {
                file: open(Path::new(&format!("/proc/{}/exe", child.id()))).unwrap(),
                path: PathBuf::new(),
            };
            assert!(peer.is_same(&theirs) && !peer.is_same(&Executable::own().unwrap()));
            assert!(peer.path().to_string_lossy().contains("python"), "{:?}", peer.path());
            drop(child.stdin.take());
            // It has ended, though nobody has looked yet.
            let pidfd = pidfd_of_peer(accepted.as_fd()).unwrap();
            poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).unwrap();
            assert_eq!(of_peer(&accepted).unwrap_err().to_string(), "its process has ended");
            child.wait().unwrap();
            assert_eq!(of_peer(&accepted).unwrap_err().to_string(), "its process has ended");
        }

        #[test]
        fn a_process_is_known_by_what_the_system_says_of_its_descriptor() {
            assert_eq!(pid_in("pos:\t0\nflags:\t02000002\nPid:\t4711\nNSpid:\t4711\n"), Some(4711));
            assert_eq!((pid_in("Pid:\t-1\n"), pid_in("NSpid:\t7\n"), pid_in("")), (Some(-1), None, None));
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod none {
    use std::os::fd::AsFd;

    use super::*;

    #[derive(Debug)]
    pub(super) enum File {}

    impl File {
        pub(super) fn is_same(&self, _other: &File) -> bool {
            match *self {}
        }
    }

    fn unsupported<T>() -> io::Result<T> {
        let text = "this system does not tell which program a peer runs";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }

    pub(super) fn can_be_told() -> io::Result<()> {
        unsupported()
    }

    pub(super) fn open(_path: &Path) -> io::Result<File> {
        unsupported()
    }

    pub(super) fn own() -> io::Result<Executable> {
        unsupported()
    }

    pub(in super::super) fn of_peer(_socket: impl AsFd) -> io::Result<Executable> {
        unsupported()
    }
}
