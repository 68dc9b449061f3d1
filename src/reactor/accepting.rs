//! How a listener's connections get as far as the door.

use super::source::Accepted;
use super::system::System;
use super::{Reactor, Service};
use crate::counters::Limit;
use crate::limits::ACCEPT_PAUSE;
use sidewire_wire::ResultCode;

/// Connections accepted on one listener before others get their turn.
pub(super) const ACCEPTS_PER_TURN: usize = 256;

impl<Y: System> Reactor<Y> {
    /// Lets waiting connections in.
    pub(super) fn accept(&mut self, number: u16, service: &mut impl Service) {
        if self.reserve.is_none() {
            self.reserve = self.system.reserve().ok();
        }
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
            if source.wakeup.is_armed() {
                return;
            }
            match source.accept(&self.system) {
                Accepted::Nobody => return,
                Accepted::Stream(stream) => {
                    let is_full = source.is_full();
                    self.adopt(stream, is_full.then_some(ResultCode::BUSY), number, service);
                }
                Accepted::OutOfDescriptors => return self.shed_connections(number, service),
                Accepted::Failing => return self.pause(number),
            }
        }
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        if self.schedule.queue(source.target(), &mut source.wakeup).is_err() {
            self.pause(number);
        }
    }

    /// The process is out of descriptors: accepting rests for a while, and with the one that was
    /// kept for this case one client is told so; the others wait in the system's queue.
    fn shed_connections(&mut self, number: u16, service: &mut impl Service) {
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        let links = self.links.len();
        let what =
            format_args!("the process is out of descriptors, with {links} connections; accepting rests");
        source.site.at_limit(Limit::Descriptors, what);
        self.pause(number);
        if self.reserve.take().is_none() {
            return;
        }
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        if let Accepted::Stream(stream) = source.accept(&self.system) {
            self.adopt(stream, Some(ResultCode::BUSY), number, service);
        }
    }

    /// Accepting rests for a while. No event tells of those who wait already.
    fn pause(&mut self, number: u16) {
        let Some(source) = self.sources.get_mut(usize::from(number)) else { return };
        let until = self.system.now() + ACCEPT_PAUSE;
        self.schedule.pause(source.target(), until, &mut source.wakeup);
    }
}
