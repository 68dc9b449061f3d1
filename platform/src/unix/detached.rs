//! A program that outlives whoever starts it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, setpgid, setsid};

use super::inherited::LIFELINE;
use crate::inherited::CHANNEL;

/// A program that is to be on its own: it outlives whoever starts it, and has nothing of theirs.
///
/// # Platform-specific behavior
///
/// Unix: it gets a session of its own (setsid(2)), `/dev/null` for its standard streams, and no other descriptor.
/// Its parent is whoever has started it, as long as that lives; a thread of it waits for the program's end, so that no
/// zombie stays. Windows: it gets no console, no standard streams, a process group of its own, and leaves the job of
/// whoever starts it, if that lets it.
#[derive(Debug)]
pub struct Program(Command);

/// A [`Program`] that was started. Dropping this leaves it alone.
#[derive(Debug)]
pub struct Started {
    /// `None`: left alone.
    child: Option<Child>,
    pid: u32,
}

impl Program {
    /// This program, with these arguments, environment and working folder. What was said of its standard streams and
    /// its process group is forgotten.
    #[must_use]
    pub fn new(mut command: Command) -> Program {
        // Which a helper that starts this has perhaps not taken yet.
        command.env_remove(CHANNEL).env_remove(LIFELINE);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: `be_alone` makes system calls and touches nothing else: no memory is allocated, no lock is taken.
        unsafe { command.pre_exec(be_alone) };
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
    /// What execve(2) says: in particular `NotFound` and `PermissionDenied`. What setsid(2) says, if the program was made
    /// a leader of its process group, and ours is outside of what we see (a namespace of process ids).
    pub fn start(&mut self) -> io::Result<Started> {
        let child = self.0.spawn()?;
        Ok(Started { pid: child.id(), child: Some(child) })
    }
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
    /// What waitpid(2) says.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// Ends it, with all of its session.
    ///
    /// # Errors
    ///
    /// What kill(2) says; not that it has ended already.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: the process alone.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        // Not waited for yet, so that the number is still its own; and it leads the group since before it was itself.
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(kill_process_group(pid, Signal::KILL)?)
    }
}

/// Somebody has to wait for it, or its zombie stays as long as this process.
impl Drop for Started {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        let waiting = thread::Builder::new().name("sidewire-wait".into()).stack_size(64 << 10);
        if let Err(error) = waiting.spawn(move || child.wait()) {
            log::debug!("nobody waits for the end of process {}: {error}", self.pid);
        }
    }
}

/// Between fork(2) and execve(2).
fn be_alone() -> io::Result<()> {
    lead_a_session()?;
    keep_descriptors();
    Ok(())
}

/// Whoever leads a process group already, since the command says so, may not: it goes back into ours first.
fn lead_a_session() -> rustix::io::Result<()> {
    let refused = match setsid() {
        Err(Errno::PERM) => Errno::PERM,
        done => return done.map(drop),
    };
    // SAFETY: they take and give numbers. Not rustix's, for which 0 is none: a group outside of our namespace is 0.
    let (is_done, ours) = unsafe { (libc::getsid(0) == libc::getpid(), libc::getpgid(libc::getppid())) };
    if is_done {
        return Ok(());
    }
    setpgid(None, Some(Pid::from_raw(ours).ok_or(refused)?)).map_err(|_| refused)?;
    setsid().map(drop)
}

/// Has every descriptor but the standard ones closed by execve(2), also those that other code has opened without
/// saying so. Not at once: std tells by one of them how execve(2) went.
fn keep_descriptors() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
        // SAFETY: takes three numbers and changes nothing but flags of descriptors. Kernels before 5.11 refuse.
        let done = unsafe {
            libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC)
        };
        if done == 0 {
            return;
        }
    }
    let most = super::descriptor_limit().min(1 << 16);
    for descriptor in 3..most as libc::c_int {
        // SAFETY: changes a flag of the descriptor, if there is such a one.
        let _ = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::time::{Duration, Instant};

    fn shell(script: &str) -> Program {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        Program::new(command)
    }

    fn end(started: &mut Started) -> ExitStatus {
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = started.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < patience);
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_is_alone() {
        let folder = tempfile::tempdir().unwrap();
        // As of other code that does not know of close-on-exec.
        // SAFETY: dup(2) of a descriptor that is open; what it gives is nobody else's.
        let inherited = unsafe { OwnedFd::from_raw_fd(libc::dup(2)) };
        assert!(inherited.as_raw_fd() > 2);
        let script = format!(
            "ls -l /proc/$$/fd > {0}/fds; cut -d' ' -f5,6 /proc/$$/stat > {0}/stat; exit 7",
            folder.path().display()
        );
        let mut started = shell(&script).start().unwrap();
        assert_eq!(end(&mut started).code(), Some(7));
        let pid = started.pid();
        assert_eq!(fs::read_to_string(folder.path().join("stat")).unwrap(), format!("{pid} {pid}\n"));
        let found = fs::read_to_string(folder.path().join("fds")).unwrap();
        let open: Vec<_> = found.lines().filter_map(|line| line.split_once(" -> ")).collect();
        // Also what the shell itself has: the file it writes into, as the standard output of `ls` alone.
        assert_eq!(open.iter().filter(|(_, target)| *target == "/dev/null").count(), 3, "{found}");
        assert!(open.len() <= 4, "{found}");
    }

    /// Also what a command or its own code has made a leader before.
    #[cfg(target_os = "linux")]
    #[test]
    fn it_leads_a_session_whatever_it_led_before() {
        let group: fn(&mut Command) = |command| _ = command.process_group(0);
        let session: fn(&mut Command) = |command| {
            // SAFETY: setsid(2) alone.
            unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
        };
        for before in [group, session] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("stat");
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg("cut -d' ' -f5,6 /proc/$$/stat > \"$0\"").arg(&path);
            before(&mut command);
            let mut started = Program::new(command).start().unwrap();
            assert!(end(&mut started).success());
            let pid = started.pid();
            assert_eq!(fs::read_to_string(path).unwrap(), format!("{pid} {pid}\n"));
        }
    }

    #[test]
    fn what_is_not_there_or_ends_is_told() {
        let error = Program::new(Command::new("/no/such/program")).start().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let mut started = shell("sleep 1000 & sleep 1000").start().unwrap();
        assert_eq!(started.try_wait().unwrap(), None);
        started.kill().unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(end(&mut started).signal(), Some(libc::SIGKILL));
        started.kill().unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn no_zombie_stays_of_one_that_was_left_alone() {
        let started = shell("read x < /dev/null; exit 0").start().unwrap();
        let stat = format!("/proc/{}/stat", started.pid());
        drop(started);
        let patience = Instant::now() + Duration::from_secs(30);
        while fs::exists(&stat).unwrap() {
            assert!(Instant::now() < patience);
            thread::sleep(Duration::from_millis(2));
        }
    }
}
