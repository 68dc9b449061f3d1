//! Where peers come in: the listeners and datagram sockets of a loop, in one list with one numbering.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;
use sidewire_platform::EndpointKind;

use super::brought::ToParent;
use super::datagram::{DatagramSocket, Outcome, Receiving};
use super::files::FileWatch;
use super::mailbox::Mailbox;
use super::schedule::{Target, Wakeup};
use super::site::Site;
use super::slots::{Key, reserved_token};
use super::system::{DatagramIo, System};
use super::{Reactor, Service};
use crate::limits::RETRY_AFTER;

/// One of them. It stays in the list, and with it what its connections need to know, when the loop ends.
#[derive(Debug)]
pub(super) struct Source<Y: System> {
    number: u16,
    pub(super) site: Site,
    pub(super) wakeup: Wakeup,
    files: FileWatch,
    /// Connections of this listener, but for those that wait to be told "no".
    pub(super) connections: usize,
    /// Those of them that have not proved yet that they know the token, oldest first; and some that have, or have gone.
    pub(super) unproven: VecDeque<Key>,
    /// Whether somebody else listens there in our place.
    pub(super) is_handed_on: bool,
    pub(super) socket: Socket<Y>,
}

/// What is open there.
#[derive(Debug)]
pub(super) enum Socket<Y: System> {
    Listener(Y::Listener),
    Datagrams(Box<DatagramSocket<Y::Datagrams>>),
    /// Streams that the program has brought along, until the next turn.
    Brought(VecDeque<Y::Stream>),
    /// The one to the process that has started this one.
    Parent(ToParent<Y::Stream>),
    Closed,
}

/// What came of asking for the next connection.
#[derive(Debug)]
pub(super) enum Accepted<S> {
    Stream(S),
    /// Nobody is waiting.
    Nobody,
    /// One after the other could not be accepted; more may be waiting.
    Failing,
    /// The process is out of descriptors.
    OutOfDescriptors,
}

/// Connections that fail while they are accepted, one after the other, before accepting rests.
pub(super) const MAX_FAILURES: usize = 64;
/// How often the files of endpoints are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(2500);
/// How many sources there can be: what tokens tell apart everywhere, with one for the waker.
const MAX_SOURCES: u16 = u16::MAX;

impl<Y: System> Source<Y> {
    pub(super) fn new(number: u16, site: Site, socket: Socket<Y>) -> Source<Y> {
        Source {
            number,
            site,
            wakeup: Wakeup::default(),
            files: FileWatch::default(),
            connections: 0,
            unproven: VecDeque::new(),
            is_handed_on: false,
            socket,
        }
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    pub(super) fn target(&self) -> Target {
        Target::Source(self.number)
    }

    /// Whether all places are taken.
    pub(super) fn is_full(&self) -> bool {
        self.connections >= self.site.max_connections
    }

    fn token(&self) -> Token {
        token(self.number)
    }

    /// The next connection. One that could not be accepted is skipped; the first of a run is told.
    pub(super) fn accept(&mut self, system: &Y) -> Accepted<Y::Stream> {
        let token = self.token();
        let Socket::Listener(listener) = &mut self.socket else { return Accepted::Nobody };
        for failures in 0..MAX_FAILURES {
            match system.accept(listener, token) {
                Ok(stream) => return Accepted::Stream(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Accepted::Nobody,
                Err(error) if Y::is_descriptor_limit(&error) => return Accepted::OutOfDescriptors,
                Err(error) if failures == 0 => self.site.report_failing("accepting", &error),
                Err(error) => {
                    self.site.counters.system_error();
                    log::trace!("{}: accepting: {error}", self.site.endpoint);
                }
            }
        }
        Accepted::Failing
    }

    /// The datagram socket, with what it needs to work.
    pub(super) fn receiving<'a>(
        &'a mut self,
        system: &'a Y,
        mailbox: &'a Arc<Mailbox>,
    ) -> Option<Receiving<'a, Y>> {
        let Socket::Datagrams(socket) = &mut self.socket else { return None };
        Some(Receiving { number: self.number, site: &self.site, socket, system, mailbox })
    }

    /// Whether others can remove what leads clients here.
    pub(super) fn can_be_lost(&self) -> bool {
        match &self.socket {
            Socket::Listener(listener) => Y::listener_can_be_lost(listener),
            Socket::Datagrams(socket) => socket.is_open() && socket.out.socket.can_be_lost(),
            Socket::Brought(_) | Socket::Parent(_) | Socket::Closed => false,
        }
    }

    /// Sees to it that clients find the endpoint. True: it was opened anew, and some may be waiting.
    pub(super) fn look(&mut self, system: &Y) -> bool {
        if !self.can_be_lost() || !self.files.is_due() {
            return false;
        }
        let token = self.token();
        let renewed = match &mut self.socket {
            Socket::Listener(listener) => system.renew_listener(listener, token),
            Socket::Datagrams(socket) => system.renew_datagrams(&mut socket.out.socket, token),
            Socket::Brought(_) | Socket::Parent(_) | Socket::Closed => Ok(false),
        };
        self.files.looked(renewed, &self.site)
    }

    /// Lets nobody in any more, and removes what a listener left in the file system. What waits to leave a
    /// datagram socket still can.
    pub(super) fn close(&mut self, system: &Y) {
        let closed = match std::mem::replace(&mut self.socket, Socket::Closed) {
            Socket::Listener(listener) => system.close_listener(listener),
            Socket::Datagrams(mut socket) => {
                let closed = socket.close(system);
                self.socket = Socket::Datagrams(socket);
                closed
            }
            Socket::Brought(_) | Socket::Parent(_) | Socket::Closed => Ok(()),
        };
        if let Err(error) = closed {
            log::debug!("deregistering {}: {error}", self.site.endpoint);
        }
    }

    /// Whether a datagram that was to leave still waits. Where none does, nothing is left of the socket.
    pub(super) fn has_waiting(&mut self) -> bool {
        match &self.socket {
            Socket::Datagrams(socket) if socket.has_waiting() => true,
            Socket::Datagrams(_) => {
                self.socket = Socket::Closed;
                false
            }
            Socket::Listener(_) | Socket::Brought(_) | Socket::Parent(_) | Socket::Closed => false,
        }
    }

    /// Drops and counts what still waits.
    pub(super) fn give_up(&mut self) {
        if let Socket::Datagrams(socket) = &mut self.socket {
            socket.out.give_up(&self.site);
            self.socket = Socket::Closed;
        }
    }

    /// Whether streams came in here.
    pub(super) fn is_for_streams(&self) -> bool {
        self.site.endpoint.kind() == EndpointKind::Stream
    }
}

impl<Y: System> Reactor<Y> {
    /// From now on hellos say this of the application, wherever somebody comes in.
    #[cfg(feature = "describe")]
    pub(crate) fn set_app(&mut self, app: &sidewire_wire::App) {
        for source in &mut self.sources {
            Arc::make_mut(&mut source.site.settings).app = Some(app.clone());
        }
    }

    /// The number of one more source.
    pub(super) fn next_number(&self) -> io::Result<u16> {
        let number = u16::try_from(self.sources.len()).ok().filter(|number| *number < MAX_SOURCES);
        number.ok_or_else(|| {
            io::Error::other(format!(
                "a server has at most {MAX_SOURCES} endpoints, for streams and datagrams"
            ))
        })
    }

    /// Lets in who waits at a source, or handles what has come there.
    pub(super) fn serve(&mut self, number: u16, service: &mut impl Service) {
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        match source.socket {
            Socket::Listener(_) => self.accept(number, service),
            Socket::Datagrams(_) => self.receive(number, service),
            Socket::Brought(_) | Socket::Parent(_) => self.let_in_brought(number, service),
            Socket::Closed => {}
        }
    }

    /// Handles what came in on a datagram socket.
    fn receive(&mut self, number: u16, service: &mut impl Service) {
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        let Some(mut receiving) = source.receiving(&self.system, &self.mailbox) else { return };
        let outcome = receiving.read(&mut self.memory.buffer, self.limits.turn_bytes, &self.watch, service);
        self.note_datagrams();
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        let later = self.system.now() + RETRY_AFTER;
        let target = source.target();
        match outcome {
            Outcome::Drained => {}
            Outcome::Failed => self.schedule.arm(target, later, &mut source.wakeup),
            Outcome::More => {
                if self.schedule.queue(target, &mut source.wakeup).is_err() {
                    self.schedule.arm(target, later, &mut source.wakeup);
                }
            }
        }
        self.arm_datagrams(number);
    }

    /// Tries again what receivers did not take before.
    pub(super) fn send_waiting(&mut self, number: u16) {
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        let Some(receiving) = source.receiving(&self.system, &self.mailbox) else { return };
        receiving.socket.retry.rang();
        let now = self.system.now();
        receiving.socket.out.retry(now, receiving.site);
        self.arm_datagrams(number);
    }

    /// Sees to it that files are looked for, as long as there are any.
    pub(super) fn arm_looking(&mut self) {
        if self.sources.iter().any(Source::can_be_lost) {
            self.schedule.arm(Target::Files, self.system.now() + LOOK_EVERY, &mut self.looking);
        }
    }

    /// Looks for the files of all endpoints.
    pub(super) fn look(&mut self, service: &mut impl Service) {
        self.looking.rang();
        for index in 0..self.sources.len() {
            let source = &mut self.sources[index];
            if source.look(&self.system) {
                let number = source.number();
                self.serve(number, service);
            }
        }
        self.arm_looking();
    }
}

/// The token of a source.
pub(super) fn token(number: u16) -> Token {
    reserved_token(number.into())
}
