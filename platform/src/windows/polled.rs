//! A pipe whose operations end in a completion port.
//!
//! At most one operation is under way in each direction: a read (or the wait for a client) and a write. The system
//! writes to an OVERLAPPED, and to the buffer of a read, until the packet of the operation was taken from the port
//! ("OVERLAPPED structure", learn.microsoft.com/windows/win32/api/minwinbase/ns-minwinbase-overlapped; "ReadFile
//! function", learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-readfile: "This buffer must remain valid for the
//! duration of the read operation"). So both live in [`Shared`], of which every operation has a share until then,
//! whatever becomes of the pipe; the handle does, too, hence an operation always ends on an open one.

mod block;

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::sync::Arc;

use mio::{Interest, Token};

use super::completions::lock;
use super::overlapped::Started;
use super::pipe;
use super::poll::Registry;
use block::{Begun, Input, Output};
pub(super) use block::{Shared, ended};

/// A pipe that tells a poll when it can be read or written. Dropping it ends what is under way.
#[derive(Debug)]
pub(super) struct PolledPipe {
    shared: Arc<Shared>,
    /// Whether a drop lets a write go on.
    leaves_writing: bool,
}

impl PolledPipe {
    /// A server's end that nobody has connected to, or was not seen to.
    pub(super) fn alone(handle: OwnedHandle) -> PolledPipe {
        PolledPipe::new(handle, Input::Alone)
    }

    /// Either end of a connection.
    pub(super) fn connected(handle: OwnedHandle) -> PolledPipe {
        PolledPipe::new(handle, Input::Idle)
    }

    fn new(handle: OwnedHandle, input: Input) -> PolledPipe {
        PolledPipe { shared: Arc::new(Shared::new(handle, input)), leaves_writing: false }
    }

    pub(super) fn handle(&self) -> BorrowedHandle<'_> {
        self.shared.handle.as_handle()
    }

    pub(super) fn register(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        if state.registration.is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the pipe is registered already"));
        }
        shared.join(registry)?;
        state.registration = Some((token, interest));
        shared.announce(&mut state);
        Ok(())
    }

    /// What there is already is told once more.
    pub(super) fn reregister(&self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        if state.registration.is_none() {
            return Err(not_registered());
        }
        shared.join(registry)?;
        state.registration = Some((token, interest));
        // Whoever was told of the client reads now.
        match state.input {
            Input::Connected => state.input = Input::Idle,
            Input::Connecting => state.input = Input::Greeting,
            _ => {}
        }
        shared.announce(&mut state);
        Ok(())
    }

    /// From here on nobody is told of anything.
    pub(super) fn deregister(&self) -> io::Result<()> {
        let mut state = lock(&self.shared.state);
        state.news = None;
        state.registration.take().map(drop).ok_or_else(not_registered)
    }

    /// Waits for a client, without blocking. There will be an event, also for one that has come already.
    pub(super) fn wait_for_client(&self) -> io::Result<()> {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        match state.input {
            Input::Connecting => return Ok(()),
            // One who was faster must not be waited for any more: see [`pipe::has_client`].
            Input::Alone if !pipe::has_client(self.handle())? => {
                let connecting = |overlapped| {
                    // SAFETY: the OVERLAPPED stays where it is, by what `begin` does.
                    unsafe { pipe::start_accept(shared.handle.as_handle(), overlapped) }
                };
                if let Started::Pending = shared.begin(&shared.reading, connecting)? {
                    state.input = Input::Connecting;
                    return Ok(());
                }
                state.input = Input::Connected;
            }
            Input::Alone => state.input = Input::Connected,
            _ => {}
        }
        shared.tell(&mut state, Interest::READABLE);
        Ok(())
    }

    /// Why a client can't be waited for, once.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        let mut state = lock(&self.shared.state);
        match mem::replace(&mut state.input, Input::Alone) {
            Input::Failed(error) => Some(error),
            other => {
                state.input = other;
                None
            }
        }
    }

    /// Fetches what was read. If that was all, the next read begins with the next turn of the poll; there is a readable
    /// event when it has ended.
    pub(super) fn read(&self, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        let state = &mut *state;
        if let Input::Flowing = state.input
            && let Some(count) = shared.read_at_once(state, room)?
        {
            return Ok(count);
        }
        match state.input {
            Input::Ready { fetched } => Ok(state.fetch(fetched, room)),
            Input::Failed(_) => match mem::replace(&mut state.input, Input::Idle) {
                Input::Failed(error) => Err(error),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            },
            Input::Connected | Input::Idle | Input::Flowing => {
                shared.want(state);
                Err(io::ErrorKind::WouldBlock.into())
            }
            Input::Alone | Input::Connecting | Input::Greeting | Input::Wanted | Input::Reading => {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }

    /// Writes at most [`pipe::BUFFER`] bytes. While they are under way nothing else is written, and there is a writable
    /// event when they have left.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        match mem::replace(&mut state.output, Output::Idle) {
            Output::Idle => {}
            Output::Failed(error) => return Err(error),
            Output::Writing => {
                state.output = Output::Writing;
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        let bytes = &bytes[..bytes.len().min(pipe::BUFFER)];
        state.outbox.clear();
        state.outbox.extend_from_slice(bytes);
        let (start, length) = (state.outbox.as_ptr(), bytes.len() as u32);
        // SAFETY: nobody touches the outbox before the operation's end, which `Shared` outlives, nor moves its bytes.
        let begun = shared.begin_moving(&shared.writing, |overlapped| unsafe {
            pipe::start_write(shared.handle.as_handle(), start, length, overlapped)
        })?;
        match begun {
            Begun::UnderWay => {
                state.output = Output::Writing;
                Ok(bytes.len())
            }
            Begun::Ended(count) => {
                state.end_writing();
                Ok(count)
            }
        }
    }

    /// Throws the client out, along with all it has not read.
    pub(super) fn disconnect(&self) -> io::Result<()> {
        pipe::disconnect(self.handle())
    }

    /// Has a drop let the write under way go on, since somebody sees to its end.
    pub(super) fn leave_writing(&mut self) {
        self.leaves_writing = true;
    }
}

/// What is under way ends soon, if the poll turns; the handle is closed then. If it can't turn any more, another does.
impl Drop for PolledPipe {
    fn drop(&mut self) {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        state.registration = None;
        state.news = None;
        let mut orphans = 0;
        if let Input::Connecting | Input::Greeting | Input::Reading = state.input {
            pipe::cancel(self.handle(), shared.reading.overlapped());
            orphans += 1;
        }
        if let Output::Writing = state.output {
            if !self.leaves_writing {
                pipe::cancel(self.handle(), shared.writing.overlapped());
            }
            orphans += 1;
        }
        state.is_orphan = true;
        if let Some(completions) = shared.completions.get().filter(|_| orphans > 0) {
            completions.orphaned(orphans);
            drop(state);
            completions.see_off();
        }
    }
}

fn not_registered() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the pipe is not registered")
}
