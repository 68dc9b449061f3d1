//! Bytes in: from the stream to what is spoken on it, and on to whoever handles that.

use std::io;

use super::super::budget::Budget;
use super::super::system::{StreamIo, System};
use super::about::About;
use super::handing::{Books, Handing};
use super::{Context, Link, NOBODY, Scope, Service};
use crate::recorder::RecordKind;
use sidewire_wire::{Fact, LARGE, Protocol, Reading};

/// What a read has brought.
struct Fresh {
    /// Bytes in the loop's buffer; others lie behind the frame that they belong to.
    in_buffer: usize,
    /// Whether that was all there is.
    is_all: bool,
}

impl<Y: System> Link<Y> {
    /// Reads and handles what came. Says whether more may be there than the budget allowed.
    #[inline]
    pub(super) fn fill(
        &mut self,
        context: &mut Context<'_, Y>,
        budget: &mut Budget<'_, Y>,
        service: &mut impl Service,
        to_the_end: bool,
        was_at_rest: bool,
    ) -> bool {
        if self.protocol.is_accompanied() {
            return self.fill_attached(context, budget, service);
        }
        // At rest there is none of what would be in the way of reading.
        let mut may_just_read = was_at_rest;
        loop {
            let mut has_backlog = false;
            if !std::mem::take(&mut may_just_read) {
                match self.ending.input() {
                    Reading::Handles => {}
                    Reading::Discards => return self.discard(&mut context.memory.buffer),
                    Reading::Rests => return false,
                }
                if self.protocol.is_finishing() || self.protocol.is_paused() {
                    return false;
                }
                if budget.is_over() {
                    return true;
                }
                has_backlog = self.protocol.has_backlog();
            }
            let fresh = match has_backlog {
                true => {
                    if let Some(since) = self.about.as_ref().and_then(|about| about.waiting_since) {
                        budget.recorder().has_waited_since(since, context.scope.begun);
                    }
                    Fresh { in_buffer: 0, is_all: false }
                }
                false => match self.read(context, budget, to_the_end) {
                    Ok(Some(fresh)) => fresh,
                    Ok(None) => {
                        self.end_input(context.scope, budget, service);
                        return false;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        self.broke(error);
                        return false;
                    }
                },
            };
            self.take(fresh.in_buffer, context, budget, service);
            if fresh.is_all {
                return false;
            }
            // Both sides may have agreed on that just now.
            if self.protocol.is_accompanied() {
                return self.fill_attached(context, budget, service);
            }
        }
    }

    /// Reads what is there, or some of it. `None`: the peer sends no more.
    #[inline]
    fn read(
        &mut self,
        context: &mut Context<'_, Y>,
        budget: &mut Budget<'_, Y>,
        to_the_end: bool,
    ) -> io::Result<Option<Fresh>> {
        let (count, in_buffer, wanted) = match self.protocol.take_large_partial(LARGE) {
            Some((mut partial, most)) => {
                let most = most.min(budget.bytes.max(LARGE));
                let result = self.stream.read_append(&mut partial, most);
                self.protocol.put_back(partial);
                (result?, 0, most)
            }
            None => {
                let count = self.stream.read(&mut context.memory.buffer)?;
                (count, count, context.memory.buffer.len())
            }
        };
        if count == 0 {
            return Ok(None);
        }
        let begun = context.scope.begun;
        if let Err(error) = self.identify(context.at, context.memory, context.refusals, begun, true) {
            log::debug!("{}: who is there: {error}", context.scope.site.endpoint);
        }
        budget.bytes = budget.bytes.saturating_sub(count);
        context.traffic.read += count;
        let is_all = count < wanted && Y::Stream::SHORT_READ_DRAINS && !to_the_end;
        Ok(Some(Fresh { in_buffer, is_all }))
    }

    /// Handles what has come before, and so many bytes that were just read into the loop's buffer.
    #[inline]
    fn take(
        &mut self,
        in_buffer: usize,
        context: &mut Context<'_, Y>,
        budget: &Budget<'_, Y>,
        service: &mut impl Service,
    ) {
        let Link { stream, protocol, peer, source, about, opened, ending, .. } = self;
        let Some(peer) = peer.as_ref().filter(|_| !ending.is_over()) else { return };
        let (bytes, scope) = (&context.memory.buffer[..in_buffer], &context.scope);
        match protocol {
            Protocol::Framed(connection) => {
                let (deferred, topics) = (&mut *context.deferred, &mut *context.topics);
                let (stream, system, at) = (&*stream, context.system, context.at);
                let books = Books { peer, stream, system, at, about, opened, deferred, topics, budget };
                connection.receive_for(bytes, &budget.units, &mut Handing { scope, books, service });
                About::note_backlog(about, connection.has_backlog(), scope.begun);
            }
            Protocol::Plain(plain) => plain.receive(bytes, &budget.units, &mut |plain, bytes| {
                let record = budget.recorder().begin(RecordKind::Bytes, 0, 0, bytes.len());
                service.data(*source, &mut scope.session(peer, stream, plain), bytes);
                record.end();
                budget.handled();
            }),
        }
        protocol.received(budget.now());
    }

    /// The peer sends no more.
    pub(super) fn end_input(&mut self, scope: Scope<'_>, budget: &Budget<'_, Y>, service: &mut impl Service) {
        self.tell(Fact::PeerEnded);
        let Link { stream, protocol, peer, opened, source, .. } = self;
        let (peer, source) = (peer.as_ref().unwrap_or(&NOBODY), *source);
        match protocol {
            Protocol::Framed(connection) => connection.end_of_input(),
            Protocol::Plain(plain) => {
                let record = budget.recorder().begin(RecordKind::Bytes, 0, 0, 0);
                plain.end_of_input(&mut |plain, bytes| {
                    service.data(source, &mut scope.session(peer, stream, plain), bytes);
                });
                if *opened {
                    service.half_closed(source, &mut scope.session(peer, stream, plain));
                }
                plain.finish();
                record.end();
                budget.handled();
            }
        }
    }

    /// Throws input away until there is none, or the peer has closed.
    pub(super) fn discard(&mut self, buffer: &mut [u8]) -> bool {
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
