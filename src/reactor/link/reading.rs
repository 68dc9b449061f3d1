//! Bytes in: from the stream to what is spoken on it, and on to whoever handles that.

use std::io;

use sidewire_platform::Stream;

use super::super::share::Share;
use super::{Link, NOBODY, Place, Receiver, Workbench};
use sidewire_wire::{Fact, Protocol, Reading};

/// Reads of at least this size go straight into the frame's own buffer.
const LARGE: usize = 64 << 10;

impl Link {
    /// Reads and handles what came. Says whether more may be there than the budget allowed.
    pub(super) fn fill(
        &mut self,
        bench: &mut Workbench<'_>,
        share: &mut Share,
        receiver: &mut impl Receiver,
        to_the_end: bool,
    ) -> bool {
        loop {
            match self.ending.input() {
                Reading::Handles => {}
                Reading::Discards => return self.discard(bench.buffer),
                Reading::Rests => return false,
            }
            if self.protocol.has_backlog() {
                self.take(&[], bench.place, share, receiver);
            }
            if self.protocol.is_finishing() || self.protocol.is_paused() {
                return false;
            }
            if share.is_over() {
                return true;
            }
            let (result, wanted) = match self.protocol.take_large_partial(LARGE) {
                Some((mut partial, most)) => {
                    let result = self.stream.read_append(&mut partial, most);
                    self.protocol.put_back(partial);
                    (result.map(|count| (count, 0)), most)
                }
                None => (self.stream.read(bench.buffer).map(|count| (count, count)), bench.buffer.len()),
            };
            match result {
                Ok((0, _)) => {
                    self.end_input(bench.place, share, receiver);
                    return false;
                }
                Ok((count, fresh)) => {
                    if let Err(error) =
                        self.identify(bench.place.site, bench.refusing, bench.place.begun, true)
                    {
                        log::debug!("{}: who is there: {error}", bench.place.site.endpoint);
                    }
                    if self.is_dead() {
                        return false;
                    }
                    share.bytes = share.bytes.saturating_sub(count);
                    self.take(&bench.buffer[..fresh], bench.place, share, receiver);
                    if count < wanted && Stream::SHORT_READ_DRAINS && !to_the_end {
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

    fn take(&mut self, bytes: &[u8], place: Place<'_>, share: &Share, receiver: &mut impl Receiver) {
        let Link { stream, protocol, peer, .. } = self;
        let Some(peer) = peer else { return };
        match protocol {
            Protocol::Framed(connection) => {
                connection.receive(bytes, &share.units, &mut |connection, event| {
                    receiver.event(peer, stream, connection, event);
                    share.handled();
                });
            }
            Protocol::Plain(plain) => plain.receive(bytes, &share.units, &mut |plain, bytes| {
                receiver.data(&mut place.session(peer, stream, plain), bytes);
                share.handled();
            }),
        }
        protocol.received(share.now());
    }

    /// The peer sends no more.
    fn end_input(&mut self, place: Place<'_>, share: &Share, receiver: &mut impl Receiver) {
        self.tell(Fact::PeerEnded);
        let Link { stream, protocol, peer, opened, .. } = self;
        let peer = peer.as_ref().unwrap_or(&NOBODY);
        match protocol {
            Protocol::Framed(connection) => connection.end_of_input(),
            Protocol::Plain(plain) => {
                plain.end_of_input(&mut |plain, bytes| {
                    receiver.data(&mut place.session(peer, stream, plain), bytes);
                });
                if *opened {
                    receiver.half_closed(&mut place.session(peer, stream, plain));
                }
                plain.finish();
                share.handled();
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
