//! Leaves room in a send buffer for the receivers that read.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sidewire_platform::Address;

use super::system::DatagramIo;

/// On Linux, what the receivers of a Unix datagram socket have not read stays in its send buffer, and
/// one that is connected to it can fill all of that. Then nobody is answered any more.
///
/// So once half of it is unread, each receiver is put on trial: it gets one datagram, and nobody gets
/// another before that was read, or before its time is up. One whose time was up gets nothing until
/// there are signs that it has read; now and then it is given another chance, from the third quarter
/// only. The last quarter is for those who were never found at fault.
///
/// Guests, who are other users, have a guard of their own, which gives them the first quarter of the buffer.
#[derive(Debug)]
pub(super) struct SendBufferGuard {
    /// Which part of the buffer it is: one in so many.
    part: usize,
    /// Bytes that can be sent before it is worth looking how full the buffer is.
    unwatched: usize,
    /// What was unread before the datagram that is sent next.
    unread: usize,
    trial: Option<Trial>,
    at_fault: HashMap<Address, Fault>,
}

/// A receiver that has to read what it was sent.
#[derive(Debug)]
struct Trial {
    who: Address,
    /// It has read when no more than this is unread.
    floor: usize,
    until: Instant,
}

/// A receiver that did not read in time.
#[derive(Debug)]
struct Fault {
    /// What was unread then. Less is a sign that it has read meanwhile.
    unread: usize,
    next_chance: Instant,
}

/// Time to read a datagram in a trial: enough for a process that only has to be woken.
const TRIAL: Duration = Duration::from_millis(20);
/// Time between the chances of one that did not read in time.
const CHANCES: Duration = Duration::from_secs(1);
/// Receivers remembered for their fault.
const REMEMBERED: usize = 4_096;

/// What a datagram takes of the buffer, or less: the system adds up memory, not bytes.
fn weight(length: usize) -> usize {
    2 * length + 1_024
}

impl SendBufferGuard {
    /// For those who share the first of `part` equal parts of the buffer.
    pub(super) fn new(part: usize) -> SendBufferGuard {
        SendBufferGuard { part, unwatched: 0, unread: 0, trial: None, at_fault: HashMap::new() }
    }

    /// Whether a datagram of this length may be sent to `to` now. Is so for good where send buffers
    /// are not used up by those who don't read.
    pub(super) fn admits(
        &mut self,
        socket: &impl DatagramIo,
        to: &Address,
        length: usize,
        now: Instant,
    ) -> bool {
        if weight(length) <= self.unwatched {
            return true;
        }
        let Some(buffer) = socket.send_buffer() else {
            self.unwatched = usize::MAX;
            return true;
        };
        self.unread = buffer.unread;
        let size = buffer.size / self.part;
        let half = size / 2;
        if buffer.unread + weight(length) <= half {
            self.unwatched = half - buffer.unread;
            self.trial = None;
            self.at_fault.clear();
            return true;
        }
        self.unwatched = 0;
        self.judge(now);
        if self.trial.is_some() {
            return false;
        }
        self.at_fault.get(to).is_none_or(|fault| {
            let fits = buffer.unread + weight(length) <= size / 4 * 3;
            buffer.unread < fault.unread || (now >= fault.next_chance && fits)
        })
    }

    /// Whether one who is refused may be told so now. Strangers cost us sockets of theirs only, so all of
    /// them together get no more than an eighth of the buffer, and no trial: what is beyond that is
    /// not said at all.
    pub(super) fn admits_refusal(socket: &impl DatagramIo, length: usize) -> bool {
        socket.send_buffer().is_none_or(|buffer| buffer.unread + weight(length) <= buffer.size / 8)
    }

    /// A datagram that was [admitted](SendBufferGuard::admits) has been sent.
    pub(super) fn sent(&mut self, to: &Address, length: usize, now: Instant) {
        match self.unwatched.checked_sub(weight(length)) {
            Some(rest) => self.unwatched = rest,
            None => {
                self.trial = Some(Trial { who: to.clone(), floor: self.unread, until: now + TRIAL });
            }
        }
    }

    /// Ends the trial if that is possible.
    fn judge(&mut self, now: Instant) {
        let unread = self.unread;
        let Some(trial) = self.trial.take_if(|trial| unread <= trial.floor || now >= trial.until) else {
            return;
        };
        if unread <= trial.floor {
            self.at_fault.remove(&trial.who);
            return;
        }
        if self.at_fault.len() >= REMEMBERED {
            self.at_fault.clear();
        }
        self.at_fault.insert(trial.who, Fault { unread, next_chance: now + CHANCES });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::system::memory::{MemoryDatagrams, World};

    const SIZE: usize = 80_000;
    const LENGTH: usize = 100;

    fn who(number: usize) -> Address {
        Address::Path(format!("/caller-{number}").into())
    }

    /// A guard, and a socket of whose buffer so much is unread.
    fn stage(unread: usize) -> (World, MemoryDatagrams, SendBufferGuard) {
        let world = World::new();
        let socket = world.datagrams();
        world.fill(0, unread, SIZE);
        (world, socket, SendBufferGuard::new(1))
    }

    #[test]
    fn who_does_not_read_in_time_waits_for_another_chance() {
        let (world, socket, mut guard) = stage(SIZE / 2);
        let admits =
            |guard: &mut SendBufferGuard, number| guard.admits(&socket, &who(number), LENGTH, world.now());
        assert!(admits(&mut guard, 0));
        guard.sent(&who(0), LENGTH, world.now());
        world.fill(0, SIZE / 2 + weight(LENGTH), SIZE);
        world.pass(TRIAL - Duration::from_micros(1));
        assert!(!admits(&mut guard, 1), "the first still has time to read");
        world.pass(Duration::from_micros(1));
        assert!(admits(&mut guard, 1) && !admits(&mut guard, 0));
        world.pass(CHANCES - Duration::from_micros(1));
        assert!(!admits(&mut guard, 0));
        world.pass(Duration::from_micros(1));
        assert!(admits(&mut guard, 0));
        world.fill(0, SIZE / 4 * 3, SIZE);
        assert!(!admits(&mut guard, 0) && admits(&mut guard, 1), "the last quarter is for others");
    }

    #[test]
    fn who_has_read_is_at_no_fault() {
        let (world, socket, mut guard) = stage(SIZE / 2);
        for _ in 0..3 {
            assert!(guard.admits(&socket, &who(0), LENGTH, world.now()));
            guard.sent(&who(0), LENGTH, world.now());
        }
    }

    /// Below the half nobody is on trial, and guests have a part of the buffer of their own.
    #[test]
    fn guests_share_the_first_part_of_the_buffer() {
        let (world, socket, mut own) = stage(SIZE / 4);
        let mut guests = SendBufferGuard::new(4);
        for guard in [&mut own, &mut guests] {
            assert!(guard.admits(&socket, &who(0), LENGTH, world.now()));
            guard.sent(&who(0), LENGTH, world.now());
        }
        world.fill(0, SIZE / 4 + weight(LENGTH), SIZE);
        assert!(own.admits(&socket, &who(1), LENGTH, world.now()));
        assert!(!guests.admits(&socket, &who(1), LENGTH, world.now()));
    }

    #[test]
    fn so_many_faults_are_remembered() {
        let (world, socket, mut guard) = stage(SIZE / 2);
        let mut unread = SIZE / 2;
        let mut fault = |guard: &mut SendBufferGuard, number| {
            world.fill(0, unread, SIZE);
            assert!(guard.admits(&socket, &who(number), LENGTH, world.now()), "{number}");
            guard.sent(&who(number), LENGTH, world.now());
            unread += 1;
            world.fill(0, unread, SIZE);
            world.pass(TRIAL);
        };
        (0..REMEMBERED).for_each(|number| fault(&mut guard, number));
        assert!(guard.admits(&socket, &who(REMEMBERED), LENGTH, world.now()));
        assert_eq!(guard.at_fault.len(), REMEMBERED);
        fault(&mut guard, REMEMBERED);
        assert!(guard.admits(&socket, &who(0), LENGTH, world.now()), "all is forgotten then");
        assert_eq!(guard.at_fault.len(), 1);
    }

    #[test]
    fn refusals_get_an_eighth_of_the_buffer() {
        for (unread, admits) in [(SIZE / 8 - weight(LENGTH), true), (SIZE / 8, false)] {
            let (_world, socket, _) = stage(unread);
            assert_eq!(SendBufferGuard::admits_refusal(&socket, LENGTH), admits);
        }
    }
}
