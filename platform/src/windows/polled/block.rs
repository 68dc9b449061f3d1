//! What a pipe shares with the operations that are under way on it, and how these begin and end.

use std::cell::UnsafeCell;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::windows::io::{AsHandle, OwnedHandle};
use std::ptr;
use std::sync::{Arc, Mutex, OnceLock};

use mio::{Interest, Token};
use windows_sys::Win32::Foundation::ERROR_OPERATION_ABORTED;
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::super::completions::{Completions, lock};
use super::super::overlapped::Started;
use super::super::pipe;
use super::super::poll::Registry;

/// What a read may bring that waits: every idle pipe has a buffer of its own for it. What is behind that is read straight
/// to where it is wanted.
const SMALL_READ: usize = 4 * 1024;

/// Pipes and operations have shares of it; it goes, and closes the handle, with the last of them.
#[derive(Debug)]
pub(in super::super) struct Shared {
    pub(super) handle: OwnedHandle,
    /// Where its operations end, from its first registration on.
    pub(super) completions: OnceLock<Arc<Completions>>,
    /// Of the read, or of the wait for a client.
    pub(super) reading: Operation,
    pub(super) writing: Operation,
    pub(super) state: Mutex<State>,
}

/// The system's while the operation is under way.
#[derive(Default)]
pub(super) struct Operation(UnsafeCell<OVERLAPPED>);

// SAFETY: an OVERLAPPED is plain data. Who begins or ends an operation does so under the lock of the pipe's state, and
// between the two only the system touches it.
unsafe impl Send for Operation {}
// SAFETY: as above.
unsafe impl Sync for Operation {}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Operation").field(&self.overlapped()).finish()
    }
}

impl Operation {
    pub(super) fn overlapped(&self) -> *mut OVERLAPPED {
        self.0.get()
    }
}

#[derive(Debug)]
pub(super) struct State {
    /// Whom it tells what.
    pub(super) registration: Option<(Token, Interest)>,
    /// What it was not told yet. If there is something, the pipe stands in the queue of those that have news.
    pub(super) news: Option<Interest>,
    pub(super) input: Input,
    /// What was read. While [`Input::Reading`], the system's.
    pub(super) inbox: Vec<u8>,
    pub(super) output: Output,
    /// What is written. While [`Output::Writing`], the system's.
    pub(super) outbox: Vec<u8>,
    /// Whether only operations have shares any more.
    pub(super) is_orphan: bool,
}

/// How it stands with what comes in.
#[derive(Debug)]
pub(super) enum Input {
    /// There is no client yet.
    Alone,
    /// A client is waited for.
    Connecting,
    /// The same, but it was seen before the packet that tells of it, and somebody waits for what it says.
    Greeting,
    /// There is one, and nobody has asked for what it says.
    Connected,
    /// Nothing is under way.
    Idle,
    /// The same, but there is likely more to read at once.
    Flowing,
    /// The poll's next turn begins to read.
    Wanted,
    /// A read is under way.
    Reading,
    /// Something was read; so much of it was fetched already.
    Ready { fetched: usize },
    /// The next who asks is told.
    Failed(io::Error),
}

#[derive(Debug)]
pub(super) enum Output {
    Idle,
    /// A write is under way.
    Writing,
    /// The next who writes is told.
    Failed(io::Error),
}

/// How an operation has begun.
pub(super) enum Begun {
    /// It has ended already, with so many bytes, and there will be no packet.
    Ended(usize),
    UnderWay,
}

impl Shared {
    pub(super) fn new(handle: OwnedHandle, input: Input) -> Shared {
        let state = State {
            registration: None,
            news: None,
            input,
            inbox: Vec::new(),
            output: Output::Idle,
            outbox: Vec::new(),
            is_orphan: false,
        };
        Shared {
            handle,
            completions: OnceLock::new(),
            reading: Operation::default(),
            writing: Operation::default(),
            state: Mutex::new(state),
        }
    }

    /// Into the poll's port, for good.
    pub(super) fn join(self: &Arc<Self>, registry: &Registry) -> io::Result<()> {
        let completions = registry.completions()?;
        match self.completions.get() {
            Some(known) if Arc::ptr_eq(known, completions) => Ok(()),
            Some(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "the pipe belongs to another poll")),
            None => {
                completions.port().add(self.handle.as_handle(), Arc::as_ptr(self).expose_provenance())?;
                // Nobody else sets it: the state is locked.
                let _ = self.completions.set(Arc::clone(completions));
                Ok(())
            }
        }
    }

    /// Begins an operation; an error means that it did not. Called with the lock on the state, so that its end is seen
    /// behind what is noted of its beginning, and only while no other uses this `operation`. `start` may leave to the
    /// system, until the end of the operation, what the state holds for it.
    pub(super) fn begin(
        self: &Arc<Self>,
        operation: &Operation,
        start: impl FnOnce(*mut OVERLAPPED) -> io::Result<Started>,
    ) -> io::Result<Started> {
        // Without a port there would be no packet.
        if self.completions.get().is_none() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let overlapped = operation.overlapped();
        // SAFETY: no operation uses it, so it is ours to write to.
        unsafe { overlapped.write(OVERLAPPED::default()) };
        // The operation's share, which `ended` takes back. It keeps OVERLAPPED, buffer and handle until the packet has
        // come, cancelled or not ("CancelIoEx function", learn.microsoft.com/windows/win32/fileio/cancelioex-func:
        // "must not free or reuse" the OVERLAPPED before the operation has completed).
        let share = Arc::into_raw(Arc::clone(self));
        let started = start(overlapped);
        if let Ok(Started::Pending) = started {
            return started;
        }
        // SAFETY: it was made above, and there will be no packet: what has ended at once has none by
        // FILE_SKIP_COMPLETION_PORT_ON_SUCCESS, what was not begun never has ("SetFileCompletionNotificationModes
        // function", learn.microsoft.com/windows/win32/api/winbase/nf-winbase-setfilecompletionnotificationmodes).
        drop(unsafe { Arc::from_raw(share) });
        started
    }

    /// The same of a read or a write.
    pub(super) fn begin_moving(
        self: &Arc<Self>,
        operation: &Operation,
        start: impl FnOnce(*mut OVERLAPPED) -> io::Result<Started>,
    ) -> io::Result<Begun> {
        match self.begin(operation, start)? {
            Started::Pending => {
                self.completions.get().inspect(|completions| completions.begins());
                Ok(Begun::UnderWay)
            }
            Started::Finished => {
                // SAFETY: the operation was begun on this handle and has ended.
                unsafe { pipe::result(self.handle.as_handle(), operation.overlapped()) }.map(Begun::Ended)
            }
        }
    }

    /// Has the poll's next turn begin to read.
    pub(super) fn want(self: &Arc<Self>, state: &mut State) {
        if let Some(completions) = self.completions.get() {
            state.input = Input::Wanted;
            completions.want(Arc::clone(self));
        }
    }

    /// Begins the read that is wanted.
    pub(in super::super) fn begin_wanted(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        if state.is_orphan || !matches!(state.input, Input::Wanted) {
            return;
        }
        let room = SMALL_READ;
        state.inbox.clear();
        if state.inbox.capacity() != room {
            state.inbox = Vec::with_capacity(room);
        }
        let (start, length) = (state.inbox.as_mut_ptr(), room as u32);
        // SAFETY: the inbox has room for that many; nobody touches it before the operation's end, which `Shared`
        // outlives, nor moves its bytes.
        let begun = self.begin_moving(&self.reading, |overlapped| unsafe {
            pipe::start_read(self.handle.as_handle(), start, length, overlapped)
        });
        match begun {
            Ok(Begun::UnderWay) => state.input = Input::Reading,
            Ok(Begun::Ended(count)) => self.has_read(&mut state, Ok(count)),
            Err(error) => self.has_read(&mut state, Err(error)),
        }
    }

    /// A read into the inbox has ended so.
    fn has_read(self: &Arc<Self>, state: &mut State, result: io::Result<usize>) {
        match result {
            // A write of no bytes ("ReadFile function"), or the end of a thread that has read for us.
            Ok(0) => return self.want(state),
            Err(error) if is_cancelled(&error) => return self.want(state),
            Ok(count) => {
                // SAFETY: the system wrote so many bytes to its beginning, no more than it had room for.
                unsafe { state.inbox.set_len(count) };
                state.input = Input::Ready { fetched: 0 };
            }
            Err(error) => state.input = Input::Failed(error),
        }
        self.tell(state, Interest::READABLE);
    }

    /// Reads what is there straight to where it is wanted; `None`: nothing is. Since it is there, and nobody else reads,
    /// the operation ends at once; should it not, it is cancelled, and its end awaited, since `room` is borrowed.
    pub(super) fn read_at_once(
        &self,
        state: &mut State,
        room: &mut [MaybeUninit<u8>],
    ) -> io::Result<Option<usize>> {
        let Some(completions) = self.completions.get() else { return Ok(None) };
        // Of an error the read tells that is begun for it.
        let there = pipe::available(self.handle.as_handle()).unwrap_or(0);
        let length = room.len().min(there);
        if length == 0 {
            return Ok(None);
        }
        let event = completions.event();
        // One that puts no packet into the port.
        let mut overlapped = event.overlapped();
        let overlapped = &raw mut overlapped;
        let start = room.as_mut_ptr().cast();
        // SAFETY: `overlapped` lives on this stack and `room` is borrowed; both stay until the operation has ended,
        // which is waited for below.
        let started = unsafe { pipe::start_read(self.handle.as_handle(), start, length as u32, overlapped) }?;
        if let Started::Pending = started {
            pipe::cancel(self.handle.as_handle(), overlapped);
            event.wait_for_end();
        }
        // SAFETY: the operation was begun on this handle and has ended.
        match unsafe { pipe::result(self.handle.as_handle(), overlapped) } {
            Err(error) if is_cancelled(&error) => Ok(None),
            Err(error) => Err(error),
            Ok(0) => Ok(None),
            Ok(count) => {
                state.input = if count < there { Input::Flowing } else { Input::Idle };
                Ok(Some(count))
            }
        }
    }

    /// A new listener hears what there is already.
    pub(super) fn announce(self: &Arc<Self>, state: &mut State) {
        match state.input {
            Input::Idle | Input::Flowing => self.want(state),
            Input::Connected | Input::Ready { .. } | Input::Failed(_) => self.tell(state, Interest::READABLE),
            Input::Alone | Input::Connecting | Input::Greeting | Input::Wanted | Input::Reading => {}
        }
        if !matches!(state.output, Output::Writing) {
            self.tell(state, Interest::WRITABLE);
        }
    }

    /// Has the poll tell of this, if anybody wants to know.
    pub(super) fn tell(self: &Arc<Self>, state: &mut State, ready: Interest) {
        let (Some((_, interest)), Some(completions)) = (state.registration, self.completions.get()) else {
            return;
        };
        if ready.is_writable() && !interest.is_writable() {
            return;
        }
        let news = state.news.map_or(ready, |news| news | ready);
        if state.news.replace(news).is_none() {
            completions.has_news_of(Arc::clone(self));
        }
    }

    /// What is to be told, to whom.
    pub(in super::super) fn take_news(&self) -> Option<(Token, Interest)> {
        let mut state = lock(&self.state);
        let ready = state.news.take()?;
        state.registration.map(|(token, _)| (token, ready))
    }

    /// The operation with this OVERLAPPED has ended.
    fn has_ended(self: &Arc<Self>, overlapped: *mut OVERLAPPED) {
        let mut state = lock(&self.state);
        let Some(completions) = self.completions.get() else { return };
        let writes = ptr::eq(overlapped, self.writing.overlapped());
        let connects = !writes && matches!(state.input, Input::Connecting | Input::Greeting);
        if !connects {
            completions.ends();
        }
        // SAFETY: the operation was begun on this handle, and its packet says that it has ended.
        let result = unsafe { pipe::result(self.handle.as_handle(), overlapped) };
        if state.is_orphan {
            return completions.orphan_ended();
        }
        if writes {
            let length = state.outbox.len();
            state.end_writing();
            state.output = match result {
                Ok(count) if count == length => Output::Idle,
                Ok(_) => Output::Failed(io::ErrorKind::WriteZero.into()),
                Err(error) => Output::Failed(error),
            };
            return self.tell(&mut state, Interest::WRITABLE);
        }
        if !connects {
            return self.has_read(&mut state, result);
        }
        state.input = match result {
            Err(error) if !pipe::is_end(&error) => Input::Failed(error),
            // Perhaps it has left already; reading tells.
            _ if matches!(state.input, Input::Greeting) => return self.want(&mut state),
            _ => Input::Connected,
        };
        self.tell(&mut state, Interest::READABLE);
    }
}

/// Takes the end of an operation in.
///
/// # Safety
///
/// Key and OVERLAPPED must be those of a packet that was taken from a port, to which [`Shared::join`] has added what it
/// comes from; and of each packet just once.
pub(in super::super) unsafe fn ended(key: usize, overlapped: *mut OVERLAPPED) {
    // SAFETY: the key is the address of the `Shared` whose operation it was, which `begin` has made this share of.
    let shared = unsafe { Arc::from_raw(ptr::with_exposed_provenance::<Shared>(key)) };
    shared.has_ended(overlapped);
}

impl State {
    /// Copies what was read, of which so much was fetched already.
    pub(super) fn fetch(&mut self, fetched: usize, room: &mut [MaybeUninit<u8>]) -> usize {
        let left = &self.inbox[fetched..];
        let count = left.len().min(room.len());
        // SAFETY: both are at least that long; the room is borrowed exclusively, so they don't overlap.
        unsafe { ptr::copy_nonoverlapping(left.as_ptr(), room.as_mut_ptr().cast(), count) };
        self.input = match fetched + count {
            all if all < self.inbox.len() => Input::Ready { fetched: all },
            // It was full.
            all if all == self.inbox.capacity() => Input::Flowing,
            _ => Input::Idle,
        };
        count
    }

    /// Keeps no memory that was for much.
    pub(super) fn end_writing(&mut self) {
        if self.outbox.capacity() > SMALL_READ {
            self.outbox = Vec::new();
        }
    }
}

fn is_cancelled(error: &io::Error) -> bool {
    pipe::has_code(error, ERROR_OPERATION_ABORTED)
}
