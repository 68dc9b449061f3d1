//! The client's end of a connection for tasks of a Tokio runtime.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::{Channel, Stream};
use crate::peer::{Address, Peer};

/// One opened connection that never blocks, and wakes whoever waits for it. Dropping it closes it.
///
/// Only the last waker is kept for each direction.
#[derive(Debug)]
pub struct AsyncChannel {
    /// Of what comes, and of nothing else: a Unix socket tells of room each time that the other side has read something, which
    /// would wake us once more for each call.
    watched: AsyncFd<Descriptor>,
    /// Of room, while some is waited for.
    room: Mutex<Option<AsyncFd<OwnedFd>>>,
    /// Whether somebody wakes us soon for want of a descriptor.
    is_woken_later: Arc<AtomicBool>,
    runtime: Handle,
}

/// How soon somebody looks for room when the process is out of descriptors.
const AGAIN: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Descriptor(Channel);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.descriptor().as_raw_fd()
    }
}

impl AsyncChannel {
    /// Of a channel that nothing was sent through yet, in the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// If there is no runtime, or the system refuses.
    ///
    /// # Panics
    ///
    /// If the runtime was built without I/O.
    pub fn new(channel: Channel) -> io::Result<AsyncChannel> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        // SAFETY: the channel has its descriptor open, and the same one, until it is dropped, and nothing but
        // dropping it ends the registration.
        let watched = unsafe { AsyncFd::register_with_interest(Descriptor(channel), Interest::READABLE) }?;
        let (room, is_woken_later) = Default::default();
        Ok(AsyncChannel { watched, room, is_woken_later, runtime })
    }

    /// As [`Channel::peer`].
    #[must_use]
    pub fn peer(&self) -> &Peer {
        self.channel().peer()
    }

    /// As [`Channel::local_address`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn local_address(&self) -> io::Result<Address> {
        self.channel().local_address()
    }

    /// As [`Channel::peer_address`].
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn peer_address(&self) -> io::Result<Address> {
        self.channel().peer_address()
    }

    /// Takes the bytes that are there. `Ok(0)` is the end of the stream.
    ///
    /// # Errors
    ///
    /// As [`Channel::recv`]; [`io::ErrorKind::TimedOut`]: there are none.
    pub fn recv_now(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.channel().recv(buf, Some(Duration::ZERO))
    }

    /// The same, and wakes the task when there may be some.
    ///
    /// # Errors
    ///
    /// As [`AsyncChannel::recv_now`]; and if the runtime has gone.
    pub fn poll_recv(&self, task: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.watched.poll_read_ready(task))?;
            match self.recv_now(buf) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => ready.clear_ready(),
                Ok(count) => {
                    if Stream::SHORT_READ_DRAINS && (1..buf.len()).contains(&count) {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Sends what the system takes at once, which may be less than `buf`.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`]; [`io::ErrorKind::TimedOut`]: it takes nothing.
    pub fn send_now(&self, buf: &[u8]) -> io::Result<usize> {
        let sent = self.channel().send(buf, Some(Duration::ZERO));
        // Nothing waits for room any more. Whoever holds the lock sees to that himself.
        if sent.as_ref().is_ok_and(|count| *count == buf.len())
            && let Ok(mut room) = self.room.try_lock()
        {
            *room = None;
        }
        sent
    }

    /// The same, and wakes the task when it may take some.
    ///
    /// # Errors
    ///
    /// As [`AsyncChannel::send_now`]; and if the runtime has gone.
    pub fn poll_send(&self, task: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = match &mut *room {
            Some(watched) => watched,
            None => match self.watch_room() {
                Ok(watched) => room.insert(watched),
                Err(error) if error.raw_os_error().is_some() => {
                    self.wake_later(task, &error);
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        loop {
            let mut ready = ready!(watched.poll_write_ready(task))?;
            match self.send_now(buf) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => ready.clear_ready(),
                sent => {
                    if sent.as_ref().is_ok_and(|count| *count == buf.len()) {
                        *room = None;
                    }
                    return Poll::Ready(sent);
                }
            }
        }
    }

    /// With a descriptor of its own: a poll knows each once. From whichever thread.
    fn watch_room(&self) -> io::Result<AsyncFd<OwnedFd>> {
        let _runtime = self.runtime.enter();
        let descriptor = self.channel().descriptor().try_clone_to_owned()?;
        // SAFETY: it is its own, open and the same one until it is dropped, and nothing but dropping it ends the registration.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::WRITABLE) };
        Ok(watched?)
    }

    /// There are no descriptors: somebody may give one back. Once for all who ask meanwhile, by the first one's waker: all of a
    /// connection have the same.
    fn wake_later(&self, task: &Context<'_>, error: &io::Error) {
        if self.is_woken_later.swap(true, AcqRel) {
            return;
        }
        log::debug!("watching for room: {error}; once more in {AGAIN:?}");
        let (waker, is_woken_later) = (task.waker().clone(), Arc::clone(&self.is_woken_later));
        self.runtime.spawn(async move {
            sleep(AGAIN).await;
            is_woken_later.store(false, Release);
            waker.wake();
        });
    }

    /// As [`Channel::shutdown`].
    pub fn shutdown(&self) {
        self.channel().shutdown();
    }

    /// As [`Channel::hang_up`].
    pub fn hang_up(&self) {
        self.channel().hang_up();
    }

    fn channel(&self) -> &Channel {
        &self.watched.get_ref().0
    }
}
