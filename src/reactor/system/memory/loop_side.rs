//! The loop's side of a world in memory.

use std::cell::RefMut;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Interest, Token};
use sidewire_platform::{
    Address, Attachment, Carried, Credentials, Endpoint, Executable, Group, Peer, Received, SendBuffer, User,
};

use super::super::{DatagramIo, Ends, Ready, StreamIo, System, Told};
use super::{Failure, Passes, Pipe, Side, Socket, Tells, Waiting, World, process_of};
use crate::access::{Asked, NotAsked};
use crate::reactor::mailbox::Waker;

/// The loop's side of a [`World`].
#[derive(Debug)]
pub(crate) struct Memory(pub(super) World);

#[derive(Debug)]
pub(crate) struct MemoryListener {
    pub(super) world: World,
    pub(super) index: usize,
}

#[derive(Debug)]
pub(crate) struct MemoryStream {
    pub(super) world: World,
    pub(super) index: usize,
}

#[derive(Debug)]
pub(crate) struct MemoryDatagrams {
    pub(super) world: World,
    pub(super) index: usize,
}

const OUT_OF_DESCRIPTORS: &str = "out of descriptors";

impl System for Memory {
    type Stream = MemoryStream;
    type Listener = MemoryListener;
    type Datagrams = MemoryDatagrams;
    type Events = Vec<Told>;
    type Reserve = ();
    type StartLock = ();

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn poll(&mut self, events: &mut Vec<Told>, timeout: Option<Duration>) -> io::Result<()> {
        let inner = &self.0.0;
        inner.polls.set(inner.polls.get() + 1);
        events.clear();
        if let Some(left) = inner.interrupted.get().checked_sub(1) {
            inner.interrupted.set(left);
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.0.told(events);
        if events.is_empty() {
            let sleep = timeout.expect("nothing will ever happen, and the loop sleeps for ever");
            self.0.pass(sleep.max(inner.look.get()));
        }
        Ok(())
    }

    fn events(_capacity: usize) -> Vec<Told> {
        Vec::new()
    }

    fn told(events: &Vec<Told>) -> impl Iterator<Item = Told> {
        events.iter().copied()
    }

    fn waker(&self, token: Token) -> io::Result<Waker> {
        let woken = Arc::new(AtomicBool::new(false));
        *self.0.0.waker.borrow_mut() = Some((token, Arc::clone(&woken)));
        Ok(Box::new(move || {
            woken.store(true, Ordering::SeqCst);
            Ok(())
        }))
    }

    fn reserve(&self) -> io::Result<()> {
        let left = self.0.0.reserves.get().checked_sub(1).ok_or(io::ErrorKind::Other)?;
        self.0.0.reserves.set(left);
        Ok(())
    }

    fn is_descriptor_limit(error: &io::Error) -> bool {
        error.to_string() == OUT_OF_DESCRIPTORS
    }

    fn register(&self, stream: &mut MemoryStream, token: Token, interest: Interest) -> io::Result<()> {
        let mut pipe = stream.pipe();
        pipe.watched = Some((token, interest));
        // What is there already is told, too.
        pipe.is_readable_told = pipe.to_loop.is_empty() && pipe.caller == Side::Open;
        pipe.is_writable_told = pipe.room == 0;
        Ok(())
    }

    fn reregister(&self, stream: &mut MemoryStream, token: Token, interest: Interest) -> io::Result<()> {
        self.register(stream, token, interest)
    }

    fn deregister(&self, stream: &mut MemoryStream) -> io::Result<()> {
        stream.pipe().watched = None;
        Ok(())
    }

    fn listen(&self, listener: &mut MemoryListener, token: Token) -> io::Result<()> {
        self.0.0.listeners.borrow_mut()[listener.index].token = Some(token);
        Ok(())
    }

    fn accept(&self, listener: &mut MemoryListener, _token: Token) -> io::Result<MemoryStream> {
        let mut listeners = self.0.0.listeners.borrow_mut();
        if listeners[listener.index].is_handed_on {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match listeners[listener.index].waiting.pop_front() {
            Some(Waiting::Caller(index)) => Ok(MemoryStream { world: listener.world.clone(), index }),
            Some(Waiting::Failure(Failure::Aborted)) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Waiting::Failure(Failure::OutOfDescriptors)) => Err(io::Error::other(OUT_OF_DESCRIPTORS)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn withdraw(&self, listener: &mut MemoryListener) {
        self.0.0.listeners.borrow_mut()[listener.index].is_withdrawn = true;
    }

    fn pass(&self, listener: &MemoryListener, stream: &MemoryStream, bytes: &[u8]) -> io::Result<usize> {
        match self.0.0.passes.get() {
            Passes::Apart => Ok(0),
            Passes::Never => Err(io::ErrorKind::PermissionDenied.into()),
            Passes::Along => {
                let mut pipe = stream.pipe();
                pipe.to_caller.extend_from_slice(bytes);
                pipe.passed = Some(listener.index);
                Ok(bytes.len())
            }
        }
    }

    fn hand_on(&self, listener: &mut MemoryListener) {
        self.0.0.listeners.borrow_mut()[listener.index].is_handed_on = true;
    }

    fn close_listener(&self, listener: MemoryListener) -> io::Result<()> {
        self.0.0.listeners.borrow_mut()[listener.index].token = None;
        Ok(())
    }

    fn lock_start(&self, _endpoint: &Endpoint) -> io::Result<Option<()>> {
        if self.0.0.is_starting.get() {
            return Ok(None);
        }
        if self.0.0.comes_late.take() {
            self.0.connect(0, process_of(1000));
        }
        Ok(Some(()))
    }

    fn is_gone(&self, _endpoint: &Endpoint) -> bool {
        true
    }

    fn listener_can_be_lost(_listener: &MemoryListener) -> bool {
        false
    }

    fn renew_listener(&self, _listener: &mut MemoryListener, _token: Token) -> io::Result<bool> {
        Ok(false)
    }

    fn watch(&self, socket: &mut MemoryDatagrams, token: Token, _ready: Ready) -> io::Result<()> {
        self.0.0.sockets.borrow_mut()[socket.index].token = Some(token);
        Ok(())
    }

    fn unwatch(&self, socket: &mut MemoryDatagrams) -> io::Result<()> {
        self.0.0.sockets.borrow_mut()[socket.index].token = None;
        Ok(())
    }

    fn renew_datagrams(&self, _socket: &mut MemoryDatagrams, _token: Token) -> io::Result<bool> {
        Ok(false)
    }
}

impl MemoryStream {
    fn pipe(&self) -> RefMut<'_, Pipe> {
        self.world.pipe(self.index)
    }

    fn end(&self, how: Side) {
        let mut pipe = self.pipe();
        if matches!(pipe.server, Side::Open | Side::ShutDown) {
            // As a socket that is closed with input which nobody has read.
            let is_unread = how == Side::Closed && !pipe.to_loop.is_empty();
            pipe.server = if is_unread { Side::Reset } else { how };
        }
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.end(Side::Closed);
    }
}

impl Ends for MemoryStream {
    fn peer_address(&self) -> io::Result<Address> {
        Ok(Address::Unnamed)
    }

    fn local_address(&self) -> io::Result<Address> {
        Ok(Address::Unnamed)
    }
}

/// Nothing more is known of who is in memory only.
impl Asked for MemoryStream {
    fn is_member(&self, groups: &[Group]) -> io::Result<bool> {
        NotAsked.is_member(groups)
    }

    fn executable(&self) -> io::Result<Executable> {
        NotAsked.executable()
    }
}

impl StreamIo for MemoryStream {
    const SHORT_READ_DRAINS: bool = true;

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.pipe();
        if pipe.caller == Side::Reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if let Some(kind) = pipe.read_errors.pop_front() {
            pipe.is_readable_told &= kind != io::ErrorKind::WouldBlock; // but the system tells of it once more
            return Err(kind.into());
        }
        if pipe.to_loop.is_empty() {
            return if pipe.caller == Side::Open { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(0) };
        }
        let (mut count, most) = (0, pipe.to_loop.len().min(buffer.len()).min(pipe.read_at_most));
        while count < most {
            count += pipe.to_loop.read(&mut buffer[count..most])?; // of a ring, which has two ends
        }
        pipe.was_read = true;
        // Of what was there and did not come, the system tells once more.
        pipe.is_readable_told &= count < pipe.read_at_most || pipe.to_loop.is_empty();
        Ok(count)
    }

    fn read_append(&mut self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let mut bytes = vec![0; most];
        let count = self.read(&mut bytes)?;
        buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.pipe();
        assert_eq!(pipe.server, Side::Open, "writing behind a shutdown");
        if matches!(pipe.caller, Side::Closed | Side::Reset) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if let Some(kind) = pipe.write_errors.pop_front() {
            pipe.is_writable_told &= kind != io::ErrorKind::WouldBlock;
            return Err(kind.into());
        }
        let count = bytes.len().min(pipe.room).min(pipe.write_at_most);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        pipe.room -= count;
        pipe.to_caller.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.write(&pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>())
    }

    fn read_attached(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Carried)> {
        let count = self.read(buffer)?;
        let attached = std::mem::take(&mut self.pipe().attached);
        let carried = if attached.is_empty() { Carried::Nothing } else { Carried::These(attached) };
        Ok((count, carried))
    }

    fn write_attached(&mut self, pieces: &[io::IoSlice<'_>], _: &[Attachment]) -> io::Result<usize> {
        self.write_vectored(pieces)
    }

    fn is_connected(&self) -> bool {
        true
    }

    fn has_half_close(&self) -> bool {
        self.world.0.half_close.get()
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        assert!(self.has_half_close());
        let mut pipe = self.pipe();
        pipe.server = Side::ShutDown;
        // As Linux, which tells once more of an end that is there.
        pipe.is_readable_told &= pipe.caller == Side::Open;
        Ok(())
    }

    fn peer(&self) -> io::Result<Peer> {
        let pipe = self.pipe();
        match self.world.0.identity.get() {
            Tells::AtOnce => Ok(pipe.peer.clone()),
            Tells::Late if pipe.was_read => Ok(pipe.peer.clone()),
            Tells::Never(kind) if pipe.was_read => Err(kind.into()),
            Tells::Late | Tells::Never(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn close_flushed(self, within: Duration) {
        self.pipe().flushes_within = Some(within);
        self.end(Side::Flushed);
    }

    fn abort(self) {
        self.end(Side::Reset);
    }
}

impl MemoryDatagrams {
    fn socket(&self) -> RefMut<'_, Socket> {
        RefMut::map(self.world.0.sockets.borrow_mut(), |sockets| &mut sockets[self.index])
    }
}

impl DatagramIo for MemoryDatagrams {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        if let Some(kind) = self.socket().receive_errors.pop_front() {
            return Err(kind.into());
        }
        let Some((bytes, from, user)) = self.socket().incoming.pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        let mut received = Received::whole(length);
        received.truncated = length < bytes.len();
        received.from = Some(from);
        received.credentials = Some(Credentials::new(User::Uid(user), Some(1), None));
        Ok(received)
    }

    fn send(&mut self, bytes: &[u8], to: &Address, _owner: Option<&User>) -> io::Result<()> {
        let mut socket = self.socket();
        if let Some((_, room)) = socket.room.iter_mut().find(|(who, _)| who == to) {
            *room = room.checked_sub(1).ok_or(io::ErrorKind::WouldBlock)?;
        }
        socket.sent.push((bytes.to_vec(), to.clone()));
        Ok(())
    }

    fn send_buffer(&self) -> Option<SendBuffer> {
        self.socket().buffer
    }

    fn can_be_lost(&self) -> bool {
        false
    }
}
