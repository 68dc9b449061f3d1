//! Mailslots: named boxes that others put messages into, and that only their server reads.
//!
//! See "Mailslots", learn.microsoft.com/windows/win32/ipc/mailslots. One way, and meant for this machine:
//! Windows takes messages from others, without asking who they are, unless it is new ([`warn_of_others`]).
//!
//! No completion port takes a mailslot under Wine 8 (error 87), and mio has none. So a thread reads
//! it, with overlapped reads ("The handle returned by this function is asynchronous, or overlapped",
//! "CreateMailslotW function",
//! learn.microsoft.com/windows/win32/api/winbase/nf-winbase-createmailslotw) that an event can end.
//!
//! Not proven on real Windows, where Wine can't tell:
//!
//! * that the descriptor keeps others out (under Wine nobody is refused by it);
//! * that an empty message reads as one (Wine 8 reads error 109, and skips it here);
//! * what a message that is too large is refused with (Wine 8 takes what a Unix socket takes, some
//!   200,000 bytes, whatever the mailslot's maximum is, and refuses more with error 31);
//! * what a client of a server that has gone is told (nothing by Wine 8, which takes its messages
//!   until a buffer is full, and then blocks);
//! * that a write never waits, since Windows keeps each message in memory of its own.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use interprocess::os::windows::security_descriptor::{AsSecurityDescriptorExt, SecurityDescriptor};
use widestring::U16CString;
use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::Foundation::{
    ERROR_ALREADY_EXISTS, ERROR_BAD_LENGTH, ERROR_BROKEN_PIPE, ERROR_FILE_EXISTS, ERROR_HANDLE_EOF,
    ERROR_INSUFFICIENT_BUFFER, ERROR_INVALID_PARAMETER, ERROR_MORE_DATA, ERROR_NO_DATA,
    ERROR_OPERATION_ABORTED, ERROR_SEM_TIMEOUT, ERROR_SHARING_VIOLATION, INVALID_HANDLE_VALUE,
    STATUS_SUCCESS,
};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{
    FILE_GENERIC_WRITE, FILE_READ_ATTRIBUTES, FILE_SHARE_READ, FILE_SHARE_WRITE, SECURITY_IDENTIFICATION,
};
use windows_sys::Win32::System::Mailslots::CreateMailslotW;
use windows_sys::Win32::System::SystemInformation::OSVERSIONINFOW;

use super::names::MailslotName;
use super::overlapped::{Object, Started};
use super::pipe::has_code;
use super::reasons::too_large;
use super::security;
use super::wait::{Event, Wake};
use crate::deadline::Deadline;
use crate::{BindOptions, Received, Sid};

/// Most bytes of a message. Windows allows any size; with this one its sender can't make us
/// allocate what it likes.
const MESSAGE_MAX: usize = 65_536;

/// Most messages, and bytes in them, that wait to be received.
const QUEUE_MESSAGES: usize = 1_024;
const QUEUE_BYTES: usize = 4 << 20;

/// How long a read waits for a message. It only matters where a read can't be cancelled, and after
/// an error.
const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// The thread here calls a few functions, `ready`, and perhaps the application's logger.
const STACK: usize = 256 * 1024;

/// Opens the client's end: "Writing to a Mailslot",
/// learn.microsoft.com/windows/win32/ipc/writing-to-a-mailslot, and shared with other writers.
pub(super) fn open(name: &MailslotName) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
        .security_qos_flags(SECURITY_IDENTIFICATION)
        .open(&**name.text())
        .map_err(|error| match has_code(&error, ERROR_SHARING_VIOLATION) {
            true => io::Error::new(io::ErrorKind::ResourceBusy, error),
            false => error,
        })
}

/// Gives a failed write the kind that it has on other systems. Microsoft doesn't say which error a
/// message meets that is too large: any that says so, and any at all beyond what our servers take.
pub(super) fn write_error(error: io::Error, length: usize) -> io::Error {
    let gone = [ERROR_HANDLE_EOF, ERROR_BROKEN_PIPE, ERROR_NO_DATA];
    let large = [ERROR_BAD_LENGTH, ERROR_INVALID_PARAMETER, ERROR_INSUFFICIENT_BUFFER, ERROR_MORE_DATA];
    let is_any = |codes: &[u32]| codes.iter().any(|&code| has_code(&error, code));
    match is_any(&gone) {
        true => io::Error::new(io::ErrorKind::ConnectionRefused, error),
        false if length > MESSAGE_MAX || is_any(&large) => too_large(length),
        false => error,
    }
}

/// The server's end, with its reader thread, which ends when this is dropped.
pub(super) struct Mailslot {
    shared: Arc<Shared>,
    /// `None` only while dropping.
    reader: Option<JoinHandle<()>>,
}

type Ready = Box<dyn Fn() + Send + Sync>;

/// What the thread and its owner have in common.
struct Shared {
    name: Arc<str>,
    inbox: Mutex<Inbox>,
    /// Held while it is called, so that it is not called any more once it was taken out.
    ready: Mutex<Option<Ready>>,
    stopped: AtomicBool,
    /// Set along with `stopped`: wakes the thread.
    stop: Event,
}

#[derive(Default)]
struct Inbox {
    messages: VecDeque<Box<[u8]>>,
    bytes: usize,
    dropped: u64,
}

impl Mailslot {
    pub(super) fn create(name: MailslotName, options: &BindOptions) -> io::Result<Mailslot> {
        let handle = create(&name, &descriptor(options)?)?;
        if !options.anyone {
            warn_of_others(&name);
        }
        let shared = Arc::new(Shared {
            name: name.text().clone(),
            inbox: Mutex::default(),
            ready: Mutex::default(),
            stopped: AtomicBool::new(false),
            stop: Event::new()?,
        });
        // The server's end is read as a pipe is.
        let slot = Reader { object: Object::pipe(handle), event: Event::new()?, shared: shared.clone() };
        let thread = thread::Builder::new().name("mailslot".into()).stack_size(STACK);
        let reader = Some(thread.spawn(move || slot.run())?);
        Ok(Mailslot { shared, reader })
    }

    pub(super) fn register(&self, ready: Ready) -> io::Result<()> {
        let mut place = lock(&self.shared.ready);
        if place.is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the mailslot is registered already"));
        }
        if !lock(&self.shared.inbox).messages.is_empty() {
            ready();
        }
        *place = Some(ready);
        Ok(())
    }

    pub(super) fn deregister(&self) -> io::Result<()> {
        match lock(&self.shared.ready).take() {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, "the mailslot is not registered")),
        }
    }

    pub(super) fn receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        let message = lock(&self.shared.inbox).pop().ok_or(io::ErrorKind::WouldBlock)?;
        let length = message.len().min(buf.len());
        buf[..length].copy_from_slice(&message[..length]);
        Ok(Received { length, truncated: length < message.len(), from: None, credentials: None })
    }
}

impl Drop for Mailslot {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.stop.set();
        // At once, or after the read timeout. Then the handle is closed, and the name free.
        if self.reader.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("{}: the reader had panicked", self.shared.name);
        }
    }
}

impl Inbox {
    fn pop(&mut self) -> Option<Box<[u8]>> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    /// Takes a message, or drops it: then it says how many it has dropped so far.
    fn push(&mut self, message: &[u8]) -> Result<(), u64> {
        if self.messages.len() >= QUEUE_MESSAGES || self.bytes + message.len() > QUEUE_BYTES {
            self.dropped += 1;
            return Err(self.dropped);
        }
        self.bytes += message.len();
        self.messages.push_back(message.into());
        Ok(())
    }
}

impl Shared {
    fn has_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn take_in(&self, message: &[u8]) {
        let taken = lock(&self.inbox).push(message);
        match taken {
            Ok(()) => {
                if let Some(ready) = &*lock(&self.ready) {
                    ready();
                }
            }
            Err(dropped) if dropped.is_power_of_two() => log::warn!(
                "{}: {QUEUE_MESSAGES} messages or {QUEUE_BYTES} bytes wait to be received; {dropped} dropped so far",
                self.name
            ),
            Err(_) => {}
        }
    }
}

/// What the thread owns.
struct Reader {
    object: Object,
    event: Event,
    shared: Arc<Shared>,
}

impl Reader {
    fn run(self) {
        let mut buf = vec![0; MESSAGE_MAX];
        let mut failures = 0u64;
        while !self.shared.has_stopped() {
            match self.read(&mut buf) {
                Ok(length) => self.shared.take_in(&buf[..length]),
                Err(error) if has_code(&error, ERROR_SEM_TIMEOUT) => {}
                // The end of a read that was cancelled, for the sake of the stop.
                Err(error) if has_code(&error, ERROR_OPERATION_ABORTED) => {}
                Err(error) => {
                    failures += 1;
                    if failures.is_power_of_two() {
                        log::warn!("{}: reading: {error} ({failures} times so far)", self.shared.name);
                    }
                    thread::sleep(READ_TIMEOUT);
                }
            }
        }
    }

    /// One read from start to end: when this returns, the kernel has done with `buf`.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut overlapped = self.event.overlapped();
        let overlapped = &raw mut overlapped;
        // SAFETY: `overlapped` lives on this stack and `buf` is borrowed from the caller; both stay
        // until the operation has ended, which is waited for below on every path.
        let started = unsafe { self.object.start_read(buf.as_mut_ptr(), buf.len() as u32, overlapped) }?;
        let wake = match started {
            Started::Finished => Ok(Wake::Finished),
            Started::Pending => self.event.wait(&self.shared.stop, Deadline::after(None)),
        };
        if !matches!(wake, Ok(Wake::Finished)) {
            self.object.cancel(overlapped);
            self.event.wait_for_end();
        }
        // SAFETY: `overlapped` is that of the operation just started, which has ended.
        unsafe { self.object.result(overlapped) }
    }
}

/// Creates a mailslot that others can write to from this moment on.
fn create(name: &MailslotName, descriptor: &SecurityDescriptor) -> io::Result<OwnedHandle> {
    let mut attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: ptr::null_mut(),
        bInheritHandle: 0,
    };
    descriptor.write_to_security_attributes(&mut attributes);
    let timeout = READ_TIMEOUT.as_millis() as u32;
    // SAFETY: the name is NUL-terminated; name and descriptor are borrowed and `attributes` lives
    // on this stack until the call returns, which copies them.
    let handle =
        unsafe { CreateMailslotW(name.wide().as_ptr(), MESSAGE_MAX as u32, timeout, &raw const attributes) };
    if handle == INVALID_HANDLE_VALUE {
        let error = io::Error::last_os_error();
        if has_code(&error, ERROR_ALREADY_EXISTS) || has_code(&error, ERROR_FILE_EXISTS) {
            let why = format!("another server has the mailslot {}", name.text());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
        }
        return Err(error);
    }
    // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// The build from which on Windows takes no messages from other machines, unless its administrator asks
/// for them: that of "The beginning of the end of Remote Mailslots" (Microsoft's storage blog, March 2023).
const FIRST_WITHOUT_REMOTE: u32 = 25_314;

/// The descriptor holds for processes of this machine. What comes by the network is delivered by the
/// system itself, and nothing tells it apart.
fn warn_of_others(name: &MailslotName) {
    let build = build();
    if build < FIRST_WITHOUT_REMOTE {
        log::warn!(
            "{}: this Windows (build {build}) may also deliver messages from other machines, and doesn't say whose",
            name.text()
        );
    }
}

/// Windows' own, whatever the program's manifest makes GetVersionEx say. 0 if it is not told.
fn build() -> u32 {
    let mut version = OSVERSIONINFOW {
        dwOSVersionInfoSize: size_of::<OSVERSIONINFOW>() as u32,
        ..OSVERSIONINFOW::default()
    };
    // SAFETY: `version`, whose size it says itself, lives on this stack until the call returns.
    let status = unsafe { RtlGetVersion(&raw mut version) };
    if status == STATUS_SUCCESS { version.dwBuildNumber } else { 0 }
}

/// What others need on a mailslot to write to it, and no more: what GENERIC_WRITE stands for, which
/// is what they open it with, and what CreateFileW asks for besides ("CreateFileW function",
/// learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew).
const WRITER_ACCESS: u32 = FILE_GENERIC_WRITE | FILE_READ_ATTRIBUTES;

fn descriptor(options: &BindOptions) -> io::Result<SecurityDescriptor> {
    let token = security::process_token()?;
    let user = security::token_user(token.as_handle())?;
    let integrity = security::token_integrity(token.as_handle())?;
    let text = U16CString::from_str_truncate(sddl(&user, integrity, options));
    SecurityDescriptor::deserialize(&text)
}

/// As for a pipe (`security.rs`), with the rights of a mailslot.
fn sddl(user: &Sid, integrity: u32, options: &BindOptions) -> String {
    let others = security::others(WRITER_ACCESS, options);
    let label = security::label_level(integrity, options);
    format!("O:{user}D:P(A;;GA;;;{user})(A;;GA;;;SY){others}S:(ML;;NW;;;S-1-16-{label})")
}

/// What these locks guard is whole at every moment, so a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_text() {
        let user = Sid::from_bytes(&[1, 1, 0, 0, 0, 0, 0, 5, 18, 0, 0, 0]).unwrap();
        let mut options = BindOptions::default();
        assert_eq!(
            sddl(&user, 0x2000, &options),
            "O:S-1-5-18D:P(A;;GA;;;S-1-5-18)(A;;GA;;;SY)S:(ML;;NW;;;S-1-16-8192)"
        );
        options.lower_integrity = true;
        options.anyone = true;
        assert!(
            sddl(&user, 0x3000, &options).ends_with("(A;;GA;;;SY)(A;;0x120196;;;WD)S:(ML;;NW;;;S-1-16-4096)")
        );
        descriptor(&options).unwrap();
    }

    #[test]
    fn the_build_is_told() {
        assert!(build() >= 7_600, "{}: older than what Rust runs on", build());
    }

    #[test]
    fn the_owner_is_the_user() {
        let name = MailslotName::new(&format!("sidewire-owner-{}", std::process::id())).unwrap();
        let handle = create(&name, &descriptor(&BindOptions::default()).unwrap()).unwrap();
        let (owner, _) = security::owner_and_integrity(handle.as_handle()).unwrap();
        assert_eq!(crate::User::Sid(owner), crate::current_user().unwrap());
    }

    #[test]
    fn the_queue_is_bounded_in_messages_and_bytes() {
        let mut inbox = Inbox::default();
        for _ in 0..QUEUE_MESSAGES {
            inbox.push(b"").unwrap();
        }
        assert_eq!((inbox.push(b""), inbox.push(b"")), (Err(1), Err(2)));
        inbox.pop().unwrap();
        inbox.push(b"x").unwrap();
        while inbox.pop().is_some() {}
        assert_eq!(inbox.bytes, 0);
        let large = vec![7; MESSAGE_MAX];
        assert_eq!((0..1_000).take_while(|_| inbox.push(&large).is_ok()).count(), QUEUE_BYTES / MESSAGE_MAX);
        assert_eq!(inbox.push(b"x"), Err(4));
        assert_eq!(inbox.pop().unwrap().len(), MESSAGE_MAX);
        inbox.push(b"x").unwrap();
    }

    #[test]
    fn write_errors_have_kinds() {
        let kind = |code: u32| write_error(io::Error::from_raw_os_error(code.cast_signed()), 9).kind();
        assert_eq!(kind(ERROR_HANDLE_EOF), io::ErrorKind::ConnectionRefused);
        assert_eq!(kind(ERROR_INVALID_PARAMETER), io::ErrorKind::InvalidInput);
        assert_eq!(kind(5), io::ErrorKind::PermissionDenied);
        let wine = io::Error::from_raw_os_error(31);
        assert_eq!(write_error(wine, MESSAGE_MAX + 1).kind(), io::ErrorKind::InvalidInput);
    }
}
