//! Bytes in: from the stream to what is spoken on it, and on to whoever handles that.

use std::io;

use super::super::budget::Budget;
use super::super::deferred::Deferred;
use super::super::system::{StreamIo, System};
use super::super::topics::Topics;
use super::super::watch::Ran;
use super::about::About;
use super::handing::Books;
use super::{Context, Link, NOBODY, Scope, Service};
use sidewire_wire::{Fact, Protocol, Reading};

/// Reads of at least this size go straight into the frame's own buffer.
const LARGE: usize = 64 << 10;

impl<Y: System> Link<Y> {
    /// Reads and handles what came. Says whether more may be there than the budget allowed.
    pub(super) fn fill(
        &mut self,
        context: &mut Context<'_, Y>,
        budget: &mut Budget<'_, Y>,
        service: &mut impl Service,
        to_the_end: bool,
    ) -> bool {
        loop {
            match self.ending.input() {
                Reading::Handles => {}
                Reading::Discards => return self.discard(&mut context.memory.buffer),
                Reading::Rests => return false,
            }
            if self.protocol.has_backlog() {
                self.take(&[], context.scope, context.deferred, context.topics, budget, service);
            }
            if self.protocol.is_finishing() || self.protocol.is_paused() {
                return false;
            }
            if budget.is_over() {
                return true;
            }
            let (result, wanted) = match self.protocol.take_large_partial(LARGE) {
                Some((mut partial, most)) => {
                    let result = self.stream.read_append(&mut partial, most);
                    self.protocol.put_back(partial);
                    (result.map(|count| (count, 0)), most)
                }
                None => {
                    let buffer = &mut context.memory.buffer;
                    (self.stream.read(buffer).map(|count| (count, count)), buffer.len())
                }
            };
            match result {
                Ok((0, _)) => {
                    self.end_input(context.scope, budget, service);
                    return false;
                }
                Ok((count, fresh)) => {
                    let Scope { site, begun, .. } = context.scope;
                    if let Err(error) = self.identify(site, context.refusals, begun, true) {
                        log::debug!("{}: who is there: {error}", site.endpoint);
                    }
                    if self.is_over() {
                        return false;
                    }
                    budget.bytes = budget.bytes.saturating_sub(count);
                    context.traffic.read += count;
                    let (bytes, deferred) = (&context.memory.buffer[..fresh], &mut *context.deferred);
                    self.take(bytes, context.scope, deferred, context.topics, budget, service);
                    if count < wanted && Y::Stream::SHORT_READ_DRAINS && !to_the_end {
                        return self.protocol.has_backlog();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.broke(error);
                    return false;
                }
            }
        }
    }

    fn take(
        &mut self,
        bytes: &[u8],
        scope: Scope<'_>,
        deferred: &mut Deferred,
        topics: &mut Topics,
        budget: &Budget<'_, Y>,
        service: &mut impl Service,
    ) {
        let Link { stream, protocol, peer, source, about, opened, .. } = self;
        let Some(peer) = peer else { return };
        match protocol {
            Protocol::Framed(connection) => {
                let mut books = Books { about, opened, deferred, topics, looked_at: budget.looked_at() };
                connection.receive(bytes, &budget.units, &mut |connection, event| {
                    books.looked_at = budget.looked_at();
                    if let Some(handler) =
                        scope.hand_over(peer, stream, &mut books, connection, event, service)
                    {
                        budget.handled(handler);
                    }
                });
                About::note_backlog(about, connection.has_backlog(), scope.begun);
            }
            Protocol::Plain(plain) => plain.receive(bytes, &budget.units, &mut |plain, bytes| {
                service.data(*source, &mut scope.session(peer, stream, plain), bytes);
                budget.handled(Ran::Stream);
            }),
        }
        protocol.received(budget.now());
    }

    /// The peer sends no more.
    fn end_input(&mut self, scope: Scope<'_>, budget: &Budget<'_, Y>, service: &mut impl Service) {
        self.tell(Fact::PeerEnded);
        let Link { stream, protocol, peer, opened, source, .. } = self;
        let (peer, source) = (peer.as_ref().unwrap_or(&NOBODY), *source);
        match protocol {
            Protocol::Framed(connection) => connection.end_of_input(),
            Protocol::Plain(plain) => {
                plain.end_of_input(&mut |plain, bytes| {
                    service.data(source, &mut scope.session(peer, stream, plain), bytes);
                });
                if *opened {
                    service.half_closed(source, &mut scope.session(peer, stream, plain));
                }
                plain.finish();
                budget.handled(Ran::Stream);
            }
        }
    }

    /// Throws input away until there is none, or the peer has closed.
    fn discard(&mut self, buffer: &mut [u8]) -> bool {
        // A peer that never stops sending is cut off by the linger deadline, not by patience.
        for _ in 0..16 {
            match self.stream.read(buffer) {
                Ok(0) => {
                    self.tell(Fact::PeerEnded);
                    return false;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {
                    self.tell(Fact::Broken);
                    return false;
                }
            }
        }
        true
    }
}
