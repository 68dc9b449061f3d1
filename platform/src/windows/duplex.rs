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
use std::mem::{self, MaybeUninit};
use std::net::Shutdown;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use windows_sys::Win32::Foundation::ERROR_OPERATION_ABORTED;
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::overlapped::{Object, Started};
use super::wait::{CompletionPort, Event, Wake};
use super::{closing, pipe, tcp};
use crate::deadline::Deadline;
use crate::spin::Look;

/// Most bytes of one read.
const READ_MAX: usize = 1024 * 1024;

/// How long bytes that were reported as sent may keep [`Duplex`]'s drop waiting.
const LINGER: Duration = Duration::from_secs(1);

/// An object with everything needed to read from it and write to it with timeouts.
pub(super) struct Duplex {
    /// Shared only with who closes it when this has gone.
    object: Arc<Object>,
    /// Whether the peer of a socket has said that it sends no more.
    ended: AtomicBool,
    /// Set once, by [`Duplex::stop`], which also wakes whoever waits: readers by the event, writers
    /// by a packet.
    stopped: AtomicBool,
    stop: Event,
    /// Where writes end; from the first on, since an object has one port in its life.
    port: OnceLock<CompletionPort>,
    /// The event of the read under way. Held during the read.
    reader: Mutex<Event>,
    writer: Mutex<Writer>,
    /// How long receiving looks before it sleeps.
    spin: Duration,
}

/// The memory of the write under way. It belongs to the kernel while `in_flight` is some.
struct Writer {
    /// From a leaked Box, so that it stays where it is when the Duplex is moved.
    overlapped: NonNull<OVERLAPPED>,
    buffer: Vec<u8>,
    /// How many bytes the write under way has.
    in_flight: Option<usize>,
}

// SAFETY: the OVERLAPPED is owned by the Writer like a Box; no thread has a share in it.
unsafe impl Send for Writer {}

impl Duplex {
    pub(super) fn new(object: Object) -> io::Result<Duplex> {
        let (stop, reader) = (Event::new()?, Mutex::new(Event::new()?));
        Ok(Duplex {
            object: Arc::new(object),
            ended: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            stop,
            port: OnceLock::new(),
            reader,
            writer: Mutex::new(Writer::new()),
            spin: Duration::ZERO,
        })
    }

    pub(super) fn spin(&mut self, time: Duration) {
        self.spin = time;
    }

    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    /// The object, for another use, if nothing was written.
    #[cfg(feature = "tokio")]
    pub(super) fn into_object(mut self) -> Object {
        // It is shared only with who closes it when this has gone.
        Arc::get_mut(&mut self.object)
            .map_or_else(Object::closed, |object| mem::replace(object, Object::closed()))
    }

    /// The port, which belongs to whoever has the writer.
    fn port(&self, _writer: &mut Writer) -> io::Result<&CompletionPort> {
        if self.port.get().is_none() {
            // Nobody else sets it.
            let _ = self.port.set(CompletionPort::new(&self.object)?);
        }
        self.port.get().ok_or_else(|| io::ErrorKind::NotConnected.into())
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
            let is_last = deadline.has_passed();
            let result = self.read(&event, buf, deadline);
            match (&*self.object, result) {
                // On a pipe this is a write of no bytes ("ReadFile function",
                // learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile), not the end.
                (Object::Pipe(_), Ok(0)) if is_last => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                (Object::Pipe(_), Ok(0)) => {}
                (Object::Pipe(_), Err(error)) if pipe::is_end(&error) => {
                    self.object.close_pipe();
                    return Ok(0);
                }
                (Object::Tcp(_), Err(error)) => return Err(tcp::error(error)),
                (Object::Tcp(_), Ok(0)) => {
                    self.ended.store(!self.is_stopped(), Ordering::Relaxed);
                    return Ok(0);
                }
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
            Started::Pending => self.wait_for_read(event, deadline),
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

    /// Looks, if it is to, and then sleeps.
    fn wait_for_read(&self, event: &Event, deadline: Deadline) -> io::Result<Wake> {
        if let Some(look) = Look::begin(self.spin, deadline.remaining(), Instant::now) {
            while look.goes_on(Instant::now()) {
                match event.wait(&self.stop, Deadline::after(Some(Duration::ZERO))) {
                    Ok(Wake::TimedOut) => std::hint::spin_loop(),
                    woken => return woken,
                }
            }
        }
        event.wait(&self.stop, deadline)
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
        self.port(writer)?;
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
        match self.port(writer)?.wait(deadline)? {
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

    /// Waits for the write under way, however long it takes.
    pub(super) fn settle_all(&self) -> io::Result<()> {
        self.settle(&mut lock(&self.writer), Deadline::after(None))
    }

    /// Wakes whoever waits; from now on nothing is received or sent. A write under way goes on.
    pub(super) fn stop(&self) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.stop.set();
            // Without a port nobody waits there, and nobody will: whoever comes sees that it was stopped.
            if let Some(port) = self.port.get() {
                port.post_stop();
            }
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn write_error(&self, error: io::Error) -> io::Error {
        match *self.object {
            Object::Pipe(_) => {
                // What is left to read is left to the reader, which closes it then.
                if pipe::is_end(&error) && self.object.is_ended_pipe() {
                    self.object.close_pipe();
                }
                pipe::write_error(error)
            }
            Object::Tcp(_) => tcp::error(error),
        }
    }
}

/// Lets a write under way finish for at most a second, then cancels it: the memory is the kernel's
/// until the operation has ended, one way or the other. A socket whose peer has sent its end first is
/// closed a little later, as on the server's side.
impl Drop for Duplex {
    fn drop(&mut self) {
        self.finish_writing();
        let Object::Tcp(socket) = &*self.object else { return };
        // Before closing in any case: only then Windows is sure to send what it has taken.
        if socket.shutdown(Shutdown::Write).is_ok() && self.ended.load(Ordering::Relaxed) {
            closing::hold(Arc::clone(&self.object));
        }
    }
}

impl Duplex {
    fn finish_writing(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut deadline = Deadline::after(Some(LINGER));
        let Some(port) = self.port.get() else { return };
        while writer.in_flight.is_some() {
            match port.wait(deadline) {
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
                    return mem::forget(mem::replace(writer, Writer::new()));
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

fn is_cancelled(error: &io::Error) -> bool {
    pipe::has_code(error, ERROR_OPERATION_ABORTED)
}

/// What these locks guard is whole at every moment, so a panic elsewhere does no harm.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
