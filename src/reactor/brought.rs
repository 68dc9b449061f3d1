//! Streams that the program has brought along: they came in at no listener.
//!
//! They wait in their source until the loop's next turn, in which they become links as all others do. So
//! nobody is greeted, nor read, before the program's handlers are there.

use std::collections::VecDeque;
use std::io;

use super::site::Site;
use super::source::{Socket, Source};
use super::system::System;
use super::{Reactor, Service};
use crate::access::Access;
use sidewire_wire::ResultCode;

/// The stream to the process that has started this one.
#[derive(Debug)]
pub(super) enum ToParent<S> {
    /// It is no link yet.
    Waits(S),
    Here,
    Gone,
}

impl<Y: System> Reactor<Y> {
    /// Takes in the stream to the parent. When that has ended, and there is nobody else and no other way in, the
    /// loop ends too.
    pub(crate) fn bring_parent(&mut self, stream: Y::Stream, site: Site) -> io::Result<()> {
        self.takes_endpoints()?;
        let number = self.next_number()?;
        self.sources.push(Source::new(number, site, Socket::Parent(ToParent::Waits(stream))));
        self.queue_brought(number)
    }

    /// Takes in one more stream of the program's own. All of the same access share their site.
    pub(crate) fn bring(
        &mut self,
        stream: Y::Stream,
        access: &Access,
        site: impl FnOnce() -> Site,
    ) -> io::Result<()> {
        self.takes_endpoints()?;
        let is_like = |source: &Source<Y>| {
            matches!(source.socket, Socket::Brought(_)) && source.site.policy.access() == access
        };
        let number = match self.sources.iter().find(|source| is_like(source)) {
            Some(source) => source.number(),
            None => {
                let number = self.next_number()?;
                self.sources.push(Source::new(number, site(), Socket::Brought(VecDeque::new())));
                number
            }
        };
        if let Some(source) = self.sources.get_mut(usize::from(number))
            && let Socket::Brought(waiting) = &mut source.socket
        {
            waiting.push_back(stream);
        }
        self.queue_brought(number)
    }

    fn queue_brought(&mut self, number: u16) -> io::Result<()> {
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return Ok(()) };
        let queued = self.schedule.queue(source.target(), &mut source.wakeup);
        queued.map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// Makes links of those that wait.
    pub(super) fn let_in_brought(&mut self, number: u16, service: &mut impl Service) {
        while let Some(source) = self.sources.get_mut(usize::from(number)) {
            let is_full = source.is_full();
            let Some(stream) = source.next_brought() else { break };
            self.adopt(stream, is_full.then_some(ResultCode::BUSY), number, service);
        }
        self.note_gone(number);
    }

    /// A link has ended, or could not be: if it was the parent's, and there was nothing else to do, all is done.
    pub(super) fn note_gone(&mut self, number: u16) {
        if let Some(source) = self.sources.get_mut(usize::from(number))
            && source.connections == 0
            && let Socket::Parent(parent @ ToParent::Here) = &mut source.socket
        {
            log::debug!("{}: it has ended", source.site.endpoint);
            *parent = ToParent::Gone;
        }
        if self.links.len() > 0 {
            return;
        }
        let is_orphan = |source: &Source<Y>| matches!(source.socket, Socket::Parent(ToParent::Gone));
        if self.sources.iter().any(is_orphan) && !self.sources.iter().any(Source::lets_in) {
            log::debug!("the parent's channel has ended, and nobody else can come: the loop ends");
            self.stopping.get_or_insert(self.system.now());
        }
    }
}

impl<Y: System> Source<Y> {
    /// The next stream of those that wait here.
    fn next_brought(&mut self) -> Option<Y::Stream> {
        match &mut self.socket {
            Socket::Brought(waiting) => waiting.pop_front(),
            Socket::Parent(parent @ ToParent::Waits(_)) => {
                let ToParent::Waits(stream) = std::mem::replace(parent, ToParent::Here) else { return None };
                Some(stream)
            }
            Socket::Parent(_) | Socket::Listener(_) | Socket::Datagrams(_) | Socket::Closed => None,
        }
    }

    /// Whether somebody may still come in here.
    fn lets_in(&self) -> bool {
        match &self.socket {
            Socket::Listener(_) => true,
            Socket::Datagrams(socket) => socket.is_open(),
            Socket::Brought(waiting) => !waiting.is_empty(),
            Socket::Parent(parent) => matches!(parent, ToParent::Waits(_)),
            Socket::Closed => false,
        }
    }
}
