//! Whether a request may begin: what the server allows, and what our own outbox has room for.

use std::time::Instant;

use super::step::{Bound, Outcome, Purpose};
use super::{Caller, Wake};
use crate::executed::Executed;
use crate::frame::HEADER_LEN;
use crate::layout::{Classic, Layout};

/// Whether a request may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Now,
    Later,
    Never(Outcome),
}

impl<W: Wake> Caller<W> {
    /// Whether there is no need to queue: nothing is in the way of a request, and no time limit is near.
    #[inline]
    pub fn may_begin(&self, purpose: Purpose) -> bool {
        if let Purpose::Call(length) = purpose
            && self.admits_at_once(length)
        {
            return true;
        }
        self.is_admitted(purpose)
    }

    /// As most calls are: far from any limit.
    #[inline]
    fn admits_at_once(&self, length: usize) -> bool {
        let connection = &self.connection;
        let fits = length <= connection.request_limit() as usize
            && connection.waiting().saturating_add(HEADER_LEN + length) < self.settings.limits.outbox_soft;
        fits && connection.layout() == Some(Layout::V1)
            && self.course.end().is_none()
            && connection.may_call(length as u32)
            && !connection.has_deadlines()
    }

    #[inline(never)]
    fn is_admitted(&self, purpose: Purpose) -> bool {
        matches!(self.admits(purpose), Admission::Now) && self.connection.next_deadline().is_none()
    }

    /// The same where the time is known: no time limit has passed.
    pub fn may_begin_at(&self, purpose: Purpose, now: Instant) -> bool {
        matches!(self.admits(purpose), Admission::Now) && !self.is_overdue(now)
    }

    pub(super) fn admits(&self, purpose: Purpose) -> Admission {
        if self.course.end().is_some() {
            return Admission::Never(Outcome::Ended(Executed::Never));
        }
        let (length, may_call) = match purpose {
            _ if self.connection.layout().is_none() => return Admission::Later,
            Purpose::Open => return Admission::Now,
            Purpose::Flush if self.connection.has_unsent() => return Admission::Later,
            Purpose::Flush => return Admission::Now,
            Purpose::Call(length) => {
                (length, u32::try_from(length).is_ok_and(|length| self.connection.may_call(length)))
            }
            Purpose::Notify(length) => (length, true),
        };
        let too_large = |bound| Admission::Never(Outcome::TooLarge { length, bound });
        let limit = self.connection.request_limit() as usize;
        if length > limit {
            return too_large(Bound::Server(limit));
        }
        let (size, hard) = (self.size(length), self.settings.limits.outbox_hard);
        if size > hard {
            return too_large(Bound::Outbox(hard));
        }
        let fits = !self.connection.flow().is_backed_up() && self.connection.waiting() <= hard - size;
        if fits && may_call { Admission::Now } else { Admission::Later }
    }

    /// Bytes that a request with so much payload takes in the outbox.
    fn size(&self, length: usize) -> usize {
        let payload = match (self.connection.layout(), self.settings.classic) {
            (Some(Layout::Classic), Classic::Fixed(size)) => length.max(size as usize),
            _ => length,
        };
        HEADER_LEN.saturating_add(payload)
    }

    /// Whether a time limit of the connection has passed, unless there is more input.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.seats.writing_since().is_none() && self.connection.next_deadline().is_some_and(|at| at <= now)
    }
}
