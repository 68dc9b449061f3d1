//! Datagrams on their way out of one socket.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use sidewire_platform::{Address, Credentials, Endpoint, Received, User};

use super::send_buffer::SendBufferGuard;
use super::site::Site;
use super::system::DatagramIo;
use crate::access::OwnIdentity;
use crate::counters::Limit;
use crate::limits::{MAX_QUEUED_BYTES, MAX_QUEUED_DATAGRAMS};
use sidewire_wire::Excerpt;
use sidewire_wire::memory::{self, NoMemory};

/// Our own user's receivers and root's are `own`, and so are those of whom the system tells nothing.
/// Others that may talk to us are `guests`: whatever they leave unread, it holds up only guests.
#[derive(Debug)]
pub(super) struct Outgoing<D> {
    pub(super) socket: D,
    own: Lane,
    guests: Lane,
    own_identity: OwnIdentity,
    /// How long a receiver may take nothing before it is given up.
    patience: Duration,
}

/// A Unix receiver whose queue is full never says when it has room again (unix(7)), so what it does
/// not take waits here and is tried again by timer. Nothing overtakes what waits for the same
/// receiver.
#[derive(Debug)]
struct Lane {
    queues: HashMap<Receiver, Queue>,
    /// The keys of `queues`, in the order in which they are tried next.
    turns: VecDeque<Receiver>,
    /// What the queues hold, [`cost`] by cost, and at most.
    bytes: usize,
    most: usize,
    guard: SendBufferGuard,
    /// When receivers were last tried again. `None`: never.
    retried: Option<Instant>,
}

/// Whom an answer is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct To<'a> {
    address: &'a Address,
    /// Whose process sent what is answered: nobody else's socket gets the answer, where that can be
    /// told (see `Datagrams::send` in `sidewire_platform`).
    user: Option<&'a User>,
}

impl<'a> To<'a> {
    /// The sender of a datagram. `None` if that has no address.
    pub(super) fn sender_of(received: &'a Received) -> Option<To<'a>> {
        let user = received.credentials.as_ref().map(Credentials::user);
        Some(To { address: received.from.as_ref()?, user })
    }

    pub(super) fn to_owned(self) -> Receiver {
        Receiver { address: self.address.clone(), user: self.user.cloned() }
    }
}

/// As [`To`], to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Receiver {
    address: Address,
    user: Option<User>,
}

/// Addresses of Unix sockets are their owners' to choose.
impl fmt::Display for To<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Excerpt::new(&self.address.to_string()).fmt(f)?;
        self.user.map_or(Ok(()), |user| write!(f, " ({user})"))
    }
}

impl Receiver {
    pub(super) fn borrow(&self) -> To<'_> {
        To { address: &self.address, user: self.user.as_ref() }
    }
}

/// Why datagrams do not reach their receiver.
#[derive(Debug)]
enum Dropped {
    /// As many as may wait for it do, or as many bytes for all.
    QueueFull {
        waiting: usize,
    },
    /// It took nothing for so long.
    Stalled(Duration),
    NoMemory,
    /// What the system says.
    Failed(io::Error),
    /// They still waited when the server ended.
    AtTheEnd,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dropped::QueueFull { waiting } => write!(f, "{waiting} wait for it already"),
            Dropped::Stalled(patience) => write!(f, "it has taken nothing for {patience:?}"),
            Dropped::NoMemory => f.write_str("there is no memory to keep it"),
            Dropped::Failed(error) => error.fmt(f),
            Dropped::AtTheEnd => f.write_str("the server ends"),
        }
    }
}

/// What waits for one receiver; never empty.
#[derive(Debug)]
struct Queue {
    datagrams: VecDeque<Box<[u8]>>,
    /// When it last took something, or refused it first.
    stuck_since: Instant,
}

/// Sends tried each time, of which those to receivers that take nothing are for naught.
const TRIES: usize = 256;
/// Receivers tried each time: the system copies a datagram before it finds that there is no room.
const RECEIVERS: usize = 64;
/// What a datagram costs us besides its bytes, be it the only one in its queue. So even empty ones
/// are not free.
const OVERHEAD: usize = 256;

fn cost(datagram: &[u8]) -> usize {
    datagram.len() + OVERHEAD
}

/// Guests get one in so many parts of the send buffer, and of the bytes that may wait.
const GUESTS_PART: usize = 4;

impl<D: DatagramIo> Outgoing<D> {
    pub(super) fn new(socket: D, own_identity: OwnIdentity, patience: Duration) -> Outgoing<D> {
        let (own, guests) = (Lane::new(1), Lane::new(GUESTS_PART));
        Outgoing { socket, own, guests, own_identity, patience }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.own.queues.is_empty() && self.guests.queues.is_empty()
    }

    /// Sends, or lets it wait for its turn, or drops and counts it.
    pub(super) fn send(&mut self, bytes: &[u8], to: Option<To<'_>>, site: &Site, now: Instant) {
        let Some(to) = to else {
            let endpoint = &site.endpoint;
            return log::debug!("{endpoint}: a sender without an address gets no answer");
        };
        let is_guest = to.user.is_some_and(|user| !self.own_identity.is_one_of_us(user));
        let lane = if is_guest { &mut self.guests } else { &mut self.own };
        if let Err(why) = lane.send(&mut self.socket, bytes, to, now) {
            tell_dropped(site, 1, to, &why);
        }
    }

    /// Tells one who is refused so, now or not at all: nothing of it waits or is remembered.
    pub(super) fn refuse(&mut self, bytes: &[u8], to: Option<To<'_>>, endpoint: &Endpoint) {
        let Some(to) = to.filter(|_| SendBufferGuard::admits_refusal(&self.socket, bytes.len())) else {
            return;
        };
        if let Err(error) = self.socket.send(bytes, to.address, to.user) {
            log::trace!("{endpoint}: a refusal does not reach its sender: {error}");
        }
    }

    /// Tries again what waits, as far as a turn's budget goes. To be called again after a while, unless
    /// it [`is_empty`](Outgoing::is_empty) then.
    pub(super) fn retry(&mut self, now: Instant, site: &Site) {
        let Outgoing { socket, own, guests, patience, .. } = self;
        let mut lost = |lost, to: To<'_>, why: &Dropped| tell_dropped(site, lost, to, why);
        own.retry(socket, *patience, now, &mut lost);
        guests.retry(socket, *patience, now, &mut lost);
    }

    /// Drops and counts what still waits.
    pub(super) fn give_up(&mut self, site: &Site) {
        for lane in [&mut self.own, &mut self.guests] {
            for (to, queue) in lane.queues.drain() {
                tell_dropped(site, queue.datagrams.len(), to.borrow(), &Dropped::AtTheEnd);
            }
            lane.turns.clear();
            lane.bytes = 0;
        }
    }
}

impl Lane {
    fn new(part: usize) -> Lane {
        let (queues, turns) = (HashMap::new(), VecDeque::new());
        Lane {
            queues,
            turns,
            bytes: 0,
            most: MAX_QUEUED_BYTES / part,
            guard: SendBufferGuard::new(part),
            retried: None,
        }
    }

    /// An error says why it is dropped.
    fn send(
        &mut self,
        socket: &mut impl DatagramIo,
        bytes: &[u8],
        to: To<'_>,
        now: Instant,
    ) -> Result<(), Dropped> {
        let waits = !self.queues.is_empty() && self.queues.contains_key(&to.to_owned());
        if !waits && self.guard.admits(socket, to.address, bytes.len(), now) {
            match socket.send(bytes, to.address, to.user) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Dropped::Failed(error)),
                Ok(()) => {
                    self.guard.sent(to.address, bytes.len(), now);
                    return Ok(());
                }
            }
        }
        let to = to.to_owned();
        let waiting = self.queues.get(&to).map_or(0, |queue| queue.datagrams.len());
        if waiting >= MAX_QUEUED_DATAGRAMS || self.bytes + cost(bytes) > self.most {
            return Err(Dropped::QueueFull { waiting });
        }
        let Ok(datagram) = self.reserve(bytes, &to) else { return Err(Dropped::NoMemory) };
        self.bytes += cost(bytes);
        let queue = self.queues.entry(to.clone()).or_insert_with(|| {
            self.turns.push_back(to);
            Queue { datagrams: VecDeque::new(), stuck_since: now }
        });
        queue.datagrams.push_back(datagram.into());
        Ok(())
    }

    /// A copy to be kept for this receiver, and room for it.
    fn reserve(&mut self, bytes: &[u8], to: &Receiver) -> Result<Vec<u8>, NoMemory> {
        let datagram = memory::copy(bytes)?;
        self.queues.try_reserve(1)?;
        self.turns.try_reserve(1)?;
        if let Some(queue) = self.queues.get_mut(to) {
            queue.datagrams.try_reserve(1)?;
        }
        Ok(datagram)
    }

    fn retry(
        &mut self,
        socket: &mut impl DatagramIo,
        patience: Duration,
        now: Instant,
        lost: &mut impl FnMut(usize, To<'_>, &Dropped),
    ) {
        self.allow_for_our_absence(patience, now);
        let mut tries = TRIES;
        for _ in 0..self.turns.len().min(RECEIVERS) {
            let Some(to) = self.turns.pop_front() else { return };
            if self.flush(socket, &to, &mut tries, patience, now, lost) {
                self.queues.remove(&to);
            } else {
                self.turns.push_back(to);
            }
            if tries == 0 {
                return;
            }
        }
    }

    /// Receivers are not blamed for a time in which nobody tried to send to them: one that has read
    /// meanwhile may still have to wait until others, who are tried first, have been judged.
    fn allow_for_our_absence(&mut self, patience: Duration, now: Instant) {
        let Some(before) = self.retried.replace(now) else { return };
        if now.saturating_duration_since(before) > patience / 4 {
            for queue in self.queues.values_mut() {
                queue.stuck_since += now.saturating_duration_since(before.max(queue.stuck_since));
            }
        }
    }

    /// Says whether nothing more waits for this receiver.
    fn flush(
        &mut self,
        socket: &mut impl DatagramIo,
        to: &Receiver,
        tries: &mut usize,
        patience: Duration,
        now: Instant,
        lost: &mut impl FnMut(usize, To<'_>, &Dropped),
    ) -> bool {
        let Lane { queues, bytes, guard, .. } = self;
        let Some(Queue { datagrams, stuck_since }) = queues.get_mut(to) else { return true };
        while let Some(next) = datagrams.front() {
            if *tries == 0 {
                return false;
            }
            *tries -= 1;
            let sent = match guard.admits(socket, &to.address, next.len(), now) {
                true => socket.send(next, &to.address, to.user.as_ref()),
                false => Err(io::ErrorKind::WouldBlock.into()),
            };
            let (done, why) = match sent {
                Ok(()) => {
                    guard.sent(&to.address, next.len(), now);
                    *stuck_since = now;
                    (1, None)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if now.saturating_duration_since(*stuck_since) < patience {
                        return false;
                    }
                    (datagrams.len(), Some(Dropped::Stalled(patience)))
                }
                // This one is at fault, not its receiver.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    (1, Some(Dropped::Failed(error)))
                }
                Err(error) => (datagrams.len(), Some(Dropped::Failed(error))),
            };
            *bytes -= datagrams.drain(..done).map(|datagram| cost(&datagram)).sum::<usize>();
            if let Some(why) = why {
                lost(done, to.borrow(), &why);
            }
        }
        true
    }
}

/// Counts what does not reach its receiver, and tells of it.
#[cold]
fn tell_dropped(site: &Site, lost: usize, to: To<'_>, why: &Dropped) {
    site.counters.datagram_dropped(lost as u64);
    let what = format_args!("dropped {lost} datagrams for {to}: {why}");
    match why {
        Dropped::QueueFull { .. } => site.at_limit(Limit::QueuedDatagrams, what),
        Dropped::Stalled(_) => site.at_limit(Limit::WriteStallTimeout, what),
        Dropped::NoMemory => site.at_limit(Limit::Memory, what),
        Dropped::Failed(_) | Dropped::AtTheEnd => log::debug!("{}: {what}", site.endpoint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receivers_have_their_time_although_nobody_tried_to_send() {
        let (start, patience) = (Instant::now(), Duration::from_secs(30));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut lane = Lane::new(1);
        let to = Receiver { address: Address::Unnamed, user: None };
        lane.queues.insert(to.clone(), Queue { datagrams: VecDeque::new(), stuck_since: start });
        for now in [start, at(5), at(10)] {
            lane.allow_for_our_absence(patience, now);
        }
        assert_eq!(lane.queues[&to].stuck_since, start, "that was watched");
        lane.allow_for_our_absence(patience, at(50));
        assert_eq!(lane.queues[&to].stuck_since, at(40));
        lane.allow_for_our_absence(patience, at(51));
        assert_eq!(lane.queues[&to].stuck_since, at(40));
    }
}
