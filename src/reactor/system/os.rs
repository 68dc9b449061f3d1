//! The real system.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use mio::{Interest, Token};
#[cfg(feature = "tokio")]
use sidewire_platform::AsyncPoll;
use sidewire_platform::{
    Address, Attachment, Busy, Carried, Datagrams, Endpoint, Events, Listener, Peer, Poll, PollDescriptor,
    Received, Reserve, SendBuffer, StartLock, Stream, User,
};

use super::{DatagramIo, Ends, Ready, StreamIo, System, Told};
use crate::reactor::mailbox::Waker;

/// The poll, the clock and the sockets of the operating system.
#[derive(Debug)]
pub(crate) struct Os {
    poll: Poll,
}

impl Os {
    pub(crate) fn new() -> io::Result<Os> {
        Ok(Os { poll: Poll::new()? })
    }

    pub(crate) fn descriptor(&self) -> io::Result<PollDescriptor> {
        PollDescriptor::of(&self.poll)
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn for_tasks(&self) -> io::Result<AsyncPoll> {
        AsyncPoll::of(&self.poll)
    }
}

impl System for Os {
    type Stream = Stream;
    type Listener = Listener;
    type Datagrams = Datagrams;
    type Events = Events;
    type Reserve = Reserve;
    type StartLock = StartLock;

    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        self.poll.poll(events, timeout)
    }

    fn events(capacity: usize) -> Events {
        Events::with_capacity(capacity)
    }

    #[inline]
    fn told(events: &Events) -> impl Iterator<Item = Told> {
        events
            .iter()
            .map(|event| Told { token: event.token(), is_end: event.is_read_closed() || event.is_error() })
    }

    fn waker(&self, token: Token) -> io::Result<Waker> {
        let waker = sidewire_platform::Waker::new(self.poll.registry(), token)?;
        Ok(Box::new(move || waker.wake()))
    }

    fn reserve(&self) -> io::Result<Reserve> {
        Reserve::new()
    }

    fn is_descriptor_limit(error: &io::Error) -> bool {
        sidewire_platform::is_descriptor_limit(error)
    }

    fn register(&self, stream: &mut Stream, token: Token, interest: Interest) -> io::Result<()> {
        stream.register(self.poll.registry(), token, interest)
    }

    fn reregister(&self, stream: &mut Stream, token: Token, interest: Interest) -> io::Result<()> {
        stream.reregister(self.poll.registry(), token, interest)
    }

    fn deregister(&self, stream: &mut Stream) -> io::Result<()> {
        stream.deregister(self.poll.registry())
    }

    fn listen(&self, listener: &mut Listener, token: Token) -> io::Result<()> {
        listener.register(self.poll.registry(), token)
    }

    fn accept(&self, listener: &mut Listener, token: Token) -> io::Result<Stream> {
        listener.accept(self.poll.registry(), token)
    }

    fn withdraw(&self, listener: &mut Listener) {
        listener.withdraw(self.poll.registry());
    }

    fn pass(&self, listener: &Listener, stream: &Stream, bytes: &[u8]) -> io::Result<usize> {
        listener.pass(stream, bytes)
    }

    fn hand_on(&self, listener: &mut Listener) {
        listener.hand_on(self.poll.registry());
    }

    fn close_listener(&self, mut listener: Listener) -> io::Result<()> {
        listener.deregister(self.poll.registry())
    }

    fn lock_start(&self, endpoint: &Endpoint) -> io::Result<Option<StartLock>> {
        let lock = StartLock::try_acquire(endpoint)?.ok();
        if let Some(lock) = &lock {
            lock.tell(Busy::Leaving(std::process::id()));
        }
        Ok(lock)
    }

    fn is_gone(&self, endpoint: &Endpoint) -> bool {
        Listener::is_gone(endpoint)
    }

    fn listener_can_be_lost(listener: &Listener) -> bool {
        listener.can_be_lost()
    }

    fn renew_listener(&self, listener: &mut Listener, token: Token) -> io::Result<bool> {
        listener.renew(self.poll.registry(), token)
    }

    fn watch(&self, socket: &mut Datagrams, token: Token, ready: Ready) -> io::Result<()> {
        socket.register(self.poll.registry(), token, ready)
    }

    fn unwatch(&self, socket: &mut Datagrams) -> io::Result<()> {
        socket.deregister(self.poll.registry())
    }

    fn renew_datagrams(&self, socket: &mut Datagrams, token: Token) -> io::Result<bool> {
        socket.renew(self.poll.registry(), token)
    }
}

impl Ends for Stream {
    fn peer_address(&self) -> io::Result<Address> {
        Stream::peer_address(self)
    }

    fn local_address(&self) -> io::Result<Address> {
        Stream::local_address(self)
    }
}

impl StreamIo for Stream {
    const SHORT_READ_DRAINS: bool = Stream::SHORT_READ_DRAINS;

    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Stream::read(self, buffer)
    }

    fn read_append(&mut self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        Stream::read_append(self, buffer, most)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Stream::write(self, bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Stream::write_vectored(self, pieces)
    }

    fn read_attached(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Carried)> {
        Stream::read_attached(self, buffer)
    }

    fn write_attached(&mut self, pieces: &[IoSlice<'_>], attachments: &[Attachment]) -> io::Result<usize> {
        Stream::write_attached(self, pieces, attachments)
    }

    #[inline]
    fn is_connected(&self) -> bool {
        Stream::is_connected(self)
    }

    fn has_half_close(&self) -> bool {
        Stream::has_half_close(self)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Stream::shutdown_write(self)
    }

    fn peer(&self) -> io::Result<Peer> {
        Stream::peer(self)
    }

    fn close_flushed(self, within: Duration) {
        Stream::close_flushed(self, within);
    }

    fn abort(self) {
        Stream::abort(self);
    }
}

impl DatagramIo for Datagrams {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        Datagrams::receive(self, buffer)
    }

    fn send(&mut self, bytes: &[u8], to: &Address, owner: Option<&User>) -> io::Result<()> {
        Datagrams::send(self, bytes, to, owner)
    }

    fn send_buffer(&self) -> Option<SendBuffer> {
        Datagrams::send_buffer(self)
    }

    fn can_be_lost(&self) -> bool {
        Datagrams::can_be_lost(self)
    }
}
