//! How listeners are given up, so that nobody falls into the gap: who has found the way is told to try again.

use super::source::{Accepted, Socket};
use super::system::System;
use super::{Reactor, Service};
use sidewire_wire::ResultCode;

/// Most that are turned away at one listener: no queue of the system's is longer (`net.core.somaxconn`, listen(2)).
/// Only where it goes on filling there are more.
const MOST: usize = 4096;

impl<Y: System> Reactor<Y> {
    /// Has nobody find the way to any listener from here on. Those who had found it and were not accepted yet get
    /// "shutting down" (-9) in answer to their hello, or to their first request: nothing of theirs is executed, and
    /// they try again. Connections go on, and so do datagram sockets.
    ///
    /// Who comes to an endpoint that a newer server has [taken over](Reactor::give_way) is its own.
    ///
    /// Who waits at a socket that the program was given is left to whoever else has it: to a service manager, who
    /// starts the next server for them.
    ///
    /// What leads to a listener is removed under the lock under which others bind there. When this returns, another
    /// can, but for a Windows pipe, whose name is free when its last handle is closed.
    pub(super) fn withdraw(&mut self, service: &mut impl Service) {
        for index in 0..self.sources.len() {
            let source = &mut self.sources[index];
            let (number, is_ours_alone) = (source.number(), !source.site.is_adopted && !source.is_handed_on);
            let Socket::Listener(listener) = &mut source.socket else { continue };
            if is_ours_alone {
                self.system.withdraw(listener);
                self.turn_away(number, service);
            }
            self.sources[index].close(&self.system);
        }
    }

    /// Tells those who wait at a listener to try again.
    pub(super) fn turn_away(&mut self, number: u16, service: &mut impl Service) {
        for _ in 0..MOST {
            let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
            match source.accept(&self.system) {
                Accepted::Stream(stream) => {
                    self.adopt(stream, Some(ResultCode::SHUTTING_DOWN), number, service);
                }
                // The one that was kept for others who come, of whom there are none any more.
                Accepted::OutOfDescriptors if self.reserve.take().is_some() => {}
                Accepted::Nobody | Accepted::Failing | Accepted::OutOfDescriptors => return,
            }
        }
    }
}
