//! Blocking reads and writes with timeouts, both at once on two threads, on a pipe or a socket.
//!
//! Windows can time out neither a blocking read of a pipe nor, safely, one of a socket
//! ("SO_RCVTIMEO … the socket state is indeterminate", "SOL_SOCKET Socket Options",
//! learn.microsoft.com/windows/win32/winsock/sol-socket-socket-options). So everything is
//! overlapped ("Synchronization and Overlapped Input and Output",
//! learn.microsoft.com/windows/win32/sync/synchronization-and-overlapped-input-and-output).
//!
//! A **read** sets an event when it ends. When time is up it is cancelled, and its end awaited,
//! which may still bring bytes. So it never outlives its call, and reads into the caller's buffer.
//!
//! A **write** can't be cancelled without losing count of what the other side has taken. So it goes
//! on behind the caller's back, in memory of our own, and ends with a packet at a completion port.
//! With a port and not an event, because the system cancels what a thread has started when the
//! thread ends, unless it is "associated with a completion port" ("ExitThread function",
//! learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-exitthread): the
//! bytes of a thread that sends and ends would be lost.

use std::io;
use std::mem::MaybeUninit;
use std::os::windows::io::{AsHandle, AsRawHandle, AsRawSocket, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Foundation::{
    ERROR_IO_PENDING, ERROR_OPERATION_ABORTED, HANDLE, INVALID_HANDLE_VALUE, WAIT_FAILED, WAIT_OBJECT_0,
    WAIT_TIMEOUT,
};
use windows_sys::Win32::Networking::WinSock::{SOCKET, WSABUF, WSAGetOverlappedResult, WSARecv, WSASend};
use windows_sys::Win32::Storage::FileSystem::{ReadFile, WriteFile};
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetOverlappedResult, GetQueuedCompletionStatus, OVERLAPPED,
    PostQueuedCompletionStatus,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects, WaitForSingleObject,
};

use super::deadline::Deadline;
use super::{pipe, tcp};

/// Most bytes of one read.
const READ_MAX: usize = 1024 * 1024;

/// How long bytes that were reported as sent may keep [`Duplex`]'s drop waiting.
const LINGER: Duration = Duration::from_secs(1);

/// What is read from and written to. The handle was opened for overlapped use.
pub(super) enum Object {
    Pipe(OwnedHandle),
    Tcp(Socket),
}

/// An object with everything needed to read from it and write to it with timeouts.
pub(super) struct Duplex {
    object: Object,
    /// Set once, by [`Duplex::stop`], which also wakes whoever waits: readers by the event, writers
    /// by a packet.
    stopped: AtomicBool,
    stop: Event,
    /// Where writes end.
    port: Port,
    /// The event of the read under way. Held during the read.
    reader: Mutex<Event>,
    writer: Mutex<Writer>,
}

/// The memory of the write under way. It belongs to the kernel while `in_flight` is some.
struct Writer {
    /// From `Box::into_raw`, so that it stays where it is when the Duplex is moved.
    overlapped: NonNull<OVERLAPPED>,
    buffer: Vec<u8>,
    /// How many bytes the write under way has.
    in_flight: Option<usize>,
}

// SAFETY: the OVERLAPPED is owned by the Writer like a Box; no thread has a share in it.
unsafe impl Send for Writer {}

/// What a started operation does.
#[derive(Clone, Copy)]
enum Started {
    /// It has finished; the result is there.
    Finished,
    /// It goes on.
    Pending,
}

/// Why a wait has ended.
#[derive(Clone, Copy)]
enum Wake {
    Finished,
    Stopped,
    TimedOut,
}

impl Duplex {
    pub(super) fn new(object: Object) -> io::Result<Duplex> {
        let port = Port::new(&object)?;
        let (stop, reader) = (Event::new()?, Mutex::new(Event::new()?));
        Ok(Duplex {
            object,
            stopped: AtomicBool::new(false),
            stop,
            port,
            reader,
            writer: Mutex::new(Writer::new()),
        })
    }

    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    /// Waits for bytes. Ok(0) is the end of the stream, or [`Duplex::stop`]. TimedOut: nothing came.
    pub(super) fn recv(&self, buf: &mut [MaybeUninit<u8>], timeout: Option<Duration>) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let event = lock(&self.reader);
        let deadline = Deadline::after(timeout);
        loop {
            if self.is_stopped() {
                return Ok(0);
            }
            let result = self.read(&event, buf, deadline);
            match (&self.object, result) {
                // On a pipe this is a write of no bytes ("ReadFile function",
                // learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile), not the end.
                (Object::Pipe(_), Ok(0)) if deadline.has_passed() => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                (Object::Pipe(_), Ok(0)) => {}
                (Object::Pipe(_), Err(error)) if pipe::is_end(&error) => return Ok(0),
                (Object::Tcp(_), Err(error)) => return Err(tcp::error(error)),
                (_, result) => return result,
            }
        }
    }

    /// One read from start to end: when this returns, the kernel has done with `buf`.
    fn read(&self, event: &Event, buf: &mut [MaybeUninit<u8>], deadline: Deadline) -> io::Result<usize> {
        let mut overlapped = event.overlapped();
        let overlapped = &raw mut overlapped;
        let length = buf.len().min(READ_MAX) as u32;
        // SAFETY: `overlapped` lives on this stack and `buf` is borrowed from the caller; both stay
        // until the operation has ended, which is waited for below on every path.
        let started = unsafe { self.object.start_read(buf.as_mut_ptr().cast(), length, overlapped) }?;
        let wake = match started {
            Started::Finished => Ok(Wake::Finished),
            Started::Pending => event.wait(&self.stop, deadline),
        };
        if !matches!(wake, Ok(Wake::Finished)) {
            self.object.cancel(overlapped);
            event.wait_for_end();
        }
        // SAFETY: `overlapped` is that of the operation just started, which has ended.
        let result = unsafe { self.object.result(overlapped) };
        match (wake, result) {
            (Err(error), Err(_)) => Err(error),
            (Ok(Wake::TimedOut), Err(error)) if is_cancelled(&error) => Err(io::ErrorKind::TimedOut.into()),
            (Ok(Wake::Stopped), Err(error)) if is_cancelled(&error) => Ok(0),
            (_, result) => result,
        }
    }

    /// Takes up to 64 KiB of `buf`, once the write before has ended, and returns without waiting for
    /// this one. TimedOut: the write before has not ended, nothing was taken.
    pub(super) fn send(&self, buf: &[u8], timeout: Option<Duration>) -> io::Result<usize> {
        let mut writer = lock(&self.writer);
        if self.is_stopped() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if buf.is_empty() {
            return Ok(0);
        }
        self.settle(&mut writer, Deadline::after(timeout))?;
        writer.buffer.clear();
        writer.buffer.extend_from_slice(&buf[..buf.len().min(pipe::BUFFER)]);
        self.write(&mut writer).map_err(|error| self.write_error(error))
    }

    /// Starts the write of all that is in the writer's buffer.
    fn write(&self, writer: &mut Writer) -> io::Result<usize> {
        let length = writer.buffer.len();
        let overlapped = writer.overlapped.as_ptr();
        // SAFETY: nothing is in flight, so the OVERLAPPED is ours to write to.
        unsafe { overlapped.write(OVERLAPPED::default()) };
        // SAFETY: buffer and OVERLAPPED belong to the writer, which touches neither while
        // `in_flight` is some, and Duplex's drop waits for the end of the operation.
        unsafe { self.object.start_write(writer.buffer.as_ptr(), length as u32, overlapped) }?;
        // Finished or not, there will be a packet.
        writer.in_flight = Some(length);
        Ok(length)
    }

    /// Waits for the write under way, if there is one, and says how it went.
    fn settle(&self, writer: &mut Writer, deadline: Deadline) -> io::Result<()> {
        let Some(length) = writer.in_flight else { return Ok(()) };
        match self.port.wait(deadline)? {
            Wake::Finished => {}
            Wake::Stopped => return Err(io::ErrorKind::BrokenPipe.into()),
            Wake::TimedOut => return Err(io::ErrorKind::TimedOut.into()),
        }
        writer.in_flight = None;
        // SAFETY: this is the OVERLAPPED of the operation that was in flight until now.
        match unsafe { self.object.result(writer.overlapped.as_ptr()) } {
            Ok(written) if written < length => Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(self.write_error(error)),
        }
    }

    /// Waits for the write under way, at most as long as a drop would.
    pub(super) fn drain(&self) -> io::Result<()> {
        self.settle(&mut lock(&self.writer), Deadline::after(Some(LINGER)))
    }

    /// Wakes whoever waits; from now on nothing is received or sent. A write under way goes on.
    pub(super) fn stop(&self) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.stop.set();
            self.port.post_stop();
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn write_error(&self, error: io::Error) -> io::Error {
        match self.object {
            Object::Pipe(_) => pipe::write_error(error),
            Object::Tcp(_) => tcp::error(error),
        }
    }
}

/// Lets a write under way finish for at most a second, then cancels it: the memory is the kernel's
/// until the operation has ended, one way or the other.
impl Drop for Duplex {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut deadline = Deadline::after(Some(LINGER));
        while writer.in_flight.is_some() {
            match self.port.wait(deadline) {
                Ok(Wake::Finished) => writer.in_flight = None,
                // The packet of a stop that nobody waited for.
                Ok(Wake::Stopped) => {}
                Ok(Wake::TimedOut) => {
                    self.object.cancel(writer.overlapped.as_ptr());
                    deadline = Deadline::after(None);
                }
                Err(error) => {
                    // It can't happen to a port of our own; if it does, a little memory is lost.
                    log::error!("waiting for a write to end: {error}");
                    return std::mem::forget(std::mem::replace(writer, Writer::new()));
                }
            }
        }
    }
}

impl Writer {
    fn new() -> Writer {
        let overlapped = NonNull::from(Box::leak(Box::new(OVERLAPPED::default())));
        Writer { overlapped, buffer: Vec::new(), in_flight: None }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // SAFETY: it came from a Box, and Duplex's drop has seen to it that no operation uses it.
        drop(unsafe { Box::from_raw(self.overlapped.as_ptr()) });
    }
}

impl Object {
    /// Starts to read at most `length` bytes to `buf`.
    ///
    /// # Safety
    ///
    /// If this succeeds, `buf` (with room for `length` bytes) and `overlapped` (of no other
    /// operation) must stay where they are until the operation has ended.
    unsafe fn start_read(
        &self,
        buf: *mut u8,
        length: u32,
        overlapped: *mut OVERLAPPED,
    ) -> io::Result<Started> {
        match self {
            Object::Pipe(handle) => {
                // SAFETY: by this function's contract; the handle is open as long as `self`.
                let ok =
                    unsafe { ReadFile(handle.as_raw_handle(), buf, length, ptr::null_mut(), overlapped) };
                started(ok != 0)
            }
            Object::Tcp(socket) => {
                let buffer = WSABUF { len: length, buf };
                let mut flags = 0;
                // SAFETY: by this function's contract; the system copies the WSABUF and has done
                // with `flags` when the call returns. The socket is open as long as `self`.
                let code = unsafe {
                    WSARecv(
                        raw(socket),
                        &raw const buffer,
                        1,
                        ptr::null_mut(),
                        &raw mut flags,
                        overlapped,
                        None,
                    )
                };
                started(code == 0)
            }
        }
    }

    /// Starts to write `length` bytes at `buf`.
    ///
    /// # Safety
    ///
    /// As for [`Object::start_read`], and the bytes must not change either.
    unsafe fn start_write(
        &self,
        buf: *const u8,
        length: u32,
        overlapped: *mut OVERLAPPED,
    ) -> io::Result<Started> {
        match self {
            Object::Pipe(handle) => {
                // SAFETY: by this function's contract; the handle is open as long as `self`.
                let ok =
                    unsafe { WriteFile(handle.as_raw_handle(), buf, length, ptr::null_mut(), overlapped) };
                started(ok != 0)
            }
            Object::Tcp(socket) => {
                let buffer = WSABUF { len: length, buf: buf.cast_mut() };
                // SAFETY: by this function's contract; the system copies the WSABUF before the call
                // returns, and only reads from `buf`. The socket is open as long as `self`.
                let code = unsafe {
                    WSASend(raw(socket), &raw const buffer, 1, ptr::null_mut(), 0, overlapped, None)
                };
                started(code == 0)
            }
        }
    }

    /// A socket is a handle, too ("Socket Handles",
    /// learn.microsoft.com/windows/win32/winsock/socket-handles-2).
    fn handle(&self) -> HANDLE {
        match self {
            Object::Pipe(handle) => handle.as_raw_handle(),
            Object::Tcp(socket) => ptr::with_exposed_provenance_mut(raw(socket)),
        }
    }

    /// Asks the system to end an operation soon. It may have ended already, which is as good.
    fn cancel(&self, overlapped: *mut OVERLAPPED) {
        // SAFETY: the handle is open as long as `self`. The address only says which operation is
        // meant: the call doesn't follow it.
        unsafe { CancelIoEx(self.handle(), overlapped) };
    }

    /// How many bytes an operation moved.
    ///
    /// # Safety
    ///
    /// `overlapped` must be that of an operation that was started on this object, and that has ended.
    unsafe fn result(&self, overlapped: *mut OVERLAPPED) -> io::Result<usize> {
        const WAIT: i32 = 0;
        let (mut count, mut flags) = (0, 0);
        let ok = match self {
            // SAFETY: by this function's contract; `count` lives on this stack until the call returns.
            Object::Pipe(handle) => unsafe {
                GetOverlappedResult(handle.as_raw_handle(), overlapped, &raw mut count, WAIT)
            },
            // SAFETY: by this function's contract; `count` and `flags` live on this stack until the
            // call returns.
            Object::Tcp(socket) => unsafe {
                WSAGetOverlappedResult(raw(socket), overlapped, &raw mut count, WAIT, &raw mut flags)
            },
        };
        if ok == 0 { Err(io::Error::last_os_error()) } else { Ok(count as usize) }
    }
}

/// Tells a finished operation from a pending one (WSA_IO_PENDING is the same number) and from one
/// that was never started. WSAGetLastError is GetLastError.
fn started(finished: bool) -> io::Result<Started> {
    if finished {
        return Ok(Started::Finished);
    }
    let error = io::Error::last_os_error();
    if pipe::has_code(&error, ERROR_IO_PENDING) { Ok(Started::Pending) } else { Err(error) }
}

fn is_cancelled(error: &io::Error) -> bool {
    pipe::has_code(error, ERROR_OPERATION_ABORTED)
}

fn raw(socket: &Socket) -> SOCKET {
    // RawSocket is u64 in std and SOCKET usize in windows-sys: both as wide as a pointer.
    socket.as_raw_socket() as SOCKET
}

/// A manual-reset event, as overlapped operations want it.
struct Event(OwnedHandle);

impl Event {
    fn new() -> io::Result<Event> {
        // SAFETY: no attributes and no name are given; the other arguments are values.
        let handle = unsafe { CreateEventW(ptr::null(), 1, 0, ptr::null()) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `handle` is open and nobody else owns it.
        Ok(Event(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    fn set(&self) {
        // SAFETY: the handle is open as long as `self`. It can't fail on an event of our own.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }

    /// An OVERLAPPED for an operation that sets this event when it ends (and resets it when it
    /// starts). The lowest bit says that no packet is wanted at the completion port that the handle
    /// belongs to ("GetQueuedCompletionStatus function",
    /// learn.microsoft.com/windows/win32/api/ioapiset/nf-ioapiset-getqueuedcompletionstatus).
    fn overlapped(&self) -> OVERLAPPED {
        OVERLAPPED { hEvent: self.0.as_raw_handle().map_addr(|handle| handle | 1), ..OVERLAPPED::default() }
    }

    /// Waits for this event, for `stop`, or for the deadline.
    fn wait(&self, stop: &Event, deadline: Deadline) -> io::Result<Wake> {
        loop {
            match wait_for_either(self.0.as_handle(), stop.0.as_handle(), deadline.millis()) {
                WAIT_OBJECT_0 => return Ok(Wake::Finished),
                WAIT_TIMEOUT if deadline.has_passed() => return Ok(Wake::TimedOut),
                // Waits may end a little early, by the clock that deadlines are measured with.
                WAIT_TIMEOUT => {}
                WAIT_FAILED => return Err(io::Error::last_os_error()),
                _ => return Ok(Wake::Stopped),
            }
        }
    }

    /// Waits for a cancelled operation, which takes no time to speak of.
    fn wait_for_end(&self) {
        if wait_for(self.0.as_handle(), INFINITE) != WAIT_OBJECT_0 {
            // It can't happen to an event of our own; and if it did, the kernel would go on to
            // write into memory that is about to become something else.
            log::error!("waiting for a cancelled read to end: {}", io::Error::last_os_error());
            std::process::abort();
        }
    }
}

fn wait_for(event: BorrowedHandle<'_>, millis: u32) -> u32 {
    // SAFETY: the handle is borrowed, hence open until the call returns.
    unsafe { WaitForSingleObject(event.as_raw_handle(), millis) }
}

fn wait_for_either(event: BorrowedHandle<'_>, stop: BorrowedHandle<'_>, millis: u32) -> u32 {
    const ALL: i32 = 0;
    let handles: [HANDLE; 2] = [event.as_raw_handle(), stop.as_raw_handle()];
    // SAFETY: both handles are borrowed, hence open, and the array lives on this stack until the
    // call returns.
    unsafe { WaitForMultipleObjects(2, handles.as_ptr(), ALL, millis) }
}

/// A completion port that knows one object, and gets the packets of its writes and of its stop.
struct Port(OwnedHandle);

impl Port {
    fn new(object: &Object) -> io::Result<Port> {
        // SAFETY: without a file the call only makes a port; the other arguments are values.
        let port = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, 1) };
        if port.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so `port` is open and nobody else owns it.
        let port = Port(unsafe { OwnedHandle::from_raw_handle(port) });
        // SAFETY: both handles are open, and the call only connects them.
        if unsafe { CreateIoCompletionPort(object.handle(), port.0.as_raw_handle(), 0, 0) }.is_null() {
            return Err(io::Error::last_os_error());
        }
        Ok(port)
    }

    /// Queues a packet without an operation. It can only fail for want of memory; then a writer
    /// finds out when it next looks at the flag.
    fn post_stop(&self) {
        // SAFETY: the port is open as long as `self`; there is no OVERLAPPED.
        if unsafe { PostQueuedCompletionStatus(self.0.as_raw_handle(), 0, 0, ptr::null()) } == 0 {
            log::error!("waking a writer: {}", io::Error::last_os_error());
        }
    }

    /// Waits for a packet or for the deadline.
    fn wait(&self, deadline: Deadline) -> io::Result<Wake> {
        loop {
            match self.next(deadline.millis()) {
                Err(error) if pipe::has_code(&error, WAIT_TIMEOUT) && deadline.has_passed() => {
                    return Ok(Wake::TimedOut);
                }
                Err(error) if pipe::has_code(&error, WAIT_TIMEOUT) => {}
                other => return other,
            }
        }
    }

    fn next(&self, millis: u32) -> io::Result<Wake> {
        let (mut count, mut key, mut overlapped) = (0, 0, ptr::null_mut());
        // SAFETY: the port is open as long as `self`; the results live on this stack until the call
        // returns. The OVERLAPPED is only compared.
        let ok = unsafe {
            GetQueuedCompletionStatus(
                self.0.as_raw_handle(),
                &raw mut count,
                &raw mut key,
                &raw mut overlapped,
                millis,
            )
        };
        match (ok, overlapped.is_null()) {
            // The end of an operation, good or bad: its own result tells.
            (_, false) => Ok(Wake::Finished),
            (0, true) => Err(io::Error::last_os_error()),
            (_, true) => Ok(Wake::Stopped),
        }
    }
}

/// What these locks guard is whole at every moment, so a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
