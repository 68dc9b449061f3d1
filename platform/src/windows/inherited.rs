//! The channel to the parent: the child's side, and what both sides know of each other.

use std::ffi::OsStr;
use std::os::windows::io::{AsHandle, FromRawHandle, OwnedHandle};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use std::{env, fmt, io, ptr, thread};

use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use widestring::U16CString;
use windows_sys::Win32::Security::Cryptography::{BCRYPT_USE_SYSTEM_PREFERRED_RNG, BCryptGenRandom};
use windows_sys::Win32::Storage::FileSystem::SYNCHRONIZE;
use windows_sys::Win32::System::Threading::{OpenProcess, PROCESS_SYNCHRONIZE};

use super::channel::Channel;
use super::names::PipeName;
use super::owned::Owned;
use super::process::end_at_once;
use super::stream::Stream;
use super::wait::{Event, wait_for_any};
use super::{pipe, reasons, signals};
use crate::deadline::Deadline;
use crate::inherited::{CHANNEL, GRACE, garbled, take_once};

/// How long the channel may be occupied by somebody whom the parent throws out.
const BUSY: Duration = Duration::from_secs(10);

/// The channel that this process got from the one that started it; see
/// [`ChildProcess`](crate::ChildProcess). To be taken early: until then programs that this one
/// starts inherit the variable that names it.
#[derive(Debug)]
pub struct ParentChannel {
    pipe: OwnedHandle,
    secret: Secret,
    parent: u32,
    is_watched: bool,
}

impl ParentChannel {
    /// Takes the channel; nothing if this process was not started with one, or its pipe is no longer there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] when it was taken before, [`io::ErrorKind::InvalidData`] for a variable that
    /// makes no sense; what the system says.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: opens the pipe that `SIDEWIRE_CHANNEL` names, and removes the variable.
    pub fn take() -> io::Result<Option<ParentChannel>> {
        take_once(|| {
            let Some(text) = env::var_os(CHANNEL) else { return Ok(None) };
            let secret = Secret::parse(&text).ok_or_else(|| garbled(CHANNEL, &text))?;
            // SAFETY: always safe on Windows, says std.
            unsafe { env::remove_var(CHANNEL) };
            let pipe = match pipe::open(&secret.pipe()?, Deadline::after(Some(BUSY))) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                pipe => pipe?,
            };
            let parent = pipe::server_pid(pipe.as_handle())?;
            Ok(Some(ParentChannel { pipe, secret, parent, is_watched: false }))
        })
    }

    /// The process that has started this one: the one that made the pipe.
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
        Channel::from_owned(Owned::from(self.pipe))
    }

    /// A server's end. Its peer is the parent.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn into_stream(self) -> io::Result<Stream> {
        Stream::from_owned(Owned::from(self.pipe))
    }

    /// Calls `on_death`, on a thread of its own, as soon as the parent has gone, however that came about
    /// and whatever this process is busy with; half a second later this process ends. The same thread hears
    /// [`ChildProcess::terminate`](crate::ChildProcess::terminate).
    ///
    /// That the channel was closed is not the parent's death.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] when it is watched already; that there is no thread; what the system says.
    ///
    /// # Platform-specific behavior
    ///
    /// Windows: waits for the parent's process. Mostly it does not come to that, since the job ends this process, and
    /// what it has started, together with the parent.
    pub fn watch(&mut self, on_death: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        if self.is_watched {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the parent is watched already"));
        }
        let parent = open_process(self.parent)?;
        // Looked at behind the opening: as long as the other end is there, the number is the parent's.
        let has_gone = !pipe::is_open(self.pipe.as_handle());
        let end = open_end(&self.secret)?;
        thread::Builder::new().name("sidewire-parent".into()).spawn(move || {
            if !has_gone {
                wait_for_death(&parent, &end);
            }
            if catch_unwind(AssertUnwindSafe(on_death)).is_err() {
                log::error!("a closure that was told of the parent's death has panicked");
            }
            thread::sleep(GRACE);
            end_at_once(ORPHANED)
        })?;
        self.is_watched = true;
        Ok(())
    }
}

/// The exit code of a process whose parent has gone.
const ORPHANED: u32 = 1;

/// Returns when the parent has gone. Meanwhile it may say that this process is to end.
fn wait_for_death(parent: &OwnedHandle, end: &Event) {
    loop {
        match wait_for_any(&[parent.as_handle(), end.as_handle()], Deadline::after(None)) {
            Ok(Some(1)) => signals::on_terminate(),
            Ok(Some(_)) => return,
            Ok(None) => {}
            Err(error) => return log::error!("waiting for the parent's end: {error}"),
        }
    }
}

fn open_process(pid: u32) -> io::Result<OwnedHandle> {
    const INHERIT: i32 = 0;
    // SAFETY: takes numbers.
    let process = unsafe { OpenProcess(PROCESS_SYNCHRONIZE, INHERIT, pid) };
    if process.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so `process` is open and nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(process) })
}

/// The event by which a child is asked to end. One that is heard once each time that it is set.
pub(super) fn create_end(secret: &Secret, descriptor: &SecurityDescriptor) -> io::Result<Event> {
    Event::create_named(&secret.end()?, descriptor)
}

fn open_end(secret: &Secret) -> io::Result<Event> {
    Event::open_named(&secret.end()?, SYNCHRONIZE)
}

/// What a parent and its child know and nobody else.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Secret(u128);

impl Secret {
    pub(super) fn new() -> io::Result<Secret> {
        let mut bytes = [0; size_of::<u128>()];
        // SAFETY: the bytes live on this stack until the call returns, and are as many as said; there is no
        // algorithm, since the system's own generator is asked for.
        let status = unsafe {
            BCryptGenRandom(
                ptr::null_mut(),
                bytes.as_mut_ptr(),
                bytes.len() as u32,
                BCRYPT_USE_SYSTEM_PREFERRED_RNG,
            )
        };
        if status != 0 {
            return Err(io::Error::other(format!("no random numbers: status {status:#x}")));
        }
        Ok(Secret(u128::from_ne_bytes(bytes)))
    }

    /// `pipe:` and 32 digits.
    fn parse(text: &OsStr) -> Option<Secret> {
        let digits = text.to_str()?.strip_prefix("pipe:")?;
        let is_ours = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if is_ours { u128::from_str_radix(digits, 16).ok().map(Secret) } else { None }
    }

    pub(super) fn pipe(self) -> io::Result<PipeName> {
        PipeName::new(&format!("sidewire-child-{:032x}", self.0))
    }

    /// In the session's own namespace, where anybody may make events ("Kernel object namespaces",
    /// learn.microsoft.com/windows/win32/termserv/kernel-object-namespaces).
    fn end(self) -> io::Result<U16CString> {
        U16CString::from_str(format!(r"Local\sidewire-child-{:032x}", self.0))
            .map_err(|error| reasons::invalid(error.to_string()))
    }
}

/// What stands in the variable.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pipe:{:032x}", self.0)
    }
}

/// Not for logs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_are_read_back() {
        let [one, other] = [(); 2].map(|()| Secret::new().unwrap());
        assert!(one != other);
        assert_eq!(Secret::parse(OsStr::new(&one.to_string())), Some(one));
        let zeros = "0".repeat(31);
        for text in
            ["", "pipe:", &format!("pipe:{zeros}"), &format!("pipe:+{zeros}"), &format!("fd:{zeros}0")]
        {
            assert_eq!(Secret::parse(OsStr::new(text)), None, "{text}");
        }
    }
}
