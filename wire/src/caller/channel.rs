//! Reading and sending, and what that says of the connection's end.

use std::time::{Duration, Instant};

use super::course::End;
use super::seats::Seat;
use super::step::Came;
use super::{Caller, Wake};
use crate::connection::Input;
use crate::memory;
use crate::parcel::{Arrived, Parcel};
use crate::rc::ResultCode;

/// How long whoever reads waits in one go while something is not out, should nobody else send it.
const WRITER_CHECK: Duration = Duration::from_millis(100);

/// Reading.
impl<W: Wake> Caller<W> {
    /// Whether somebody waits for input.
    pub fn is_somebody_reading(&self) -> bool {
        self.seats.is_somebody_reading()
    }

    /// Somebody reads from now on. If a large frame is on its way, gives its beginning and how much is to
    /// be read straight behind it; to be given [back](Caller::put_back).
    pub fn begin_read(&mut self, at_least: usize) -> Option<(Vec<u8>, usize)> {
        self.seats.begin_read();
        self.connection.take_large_partial(at_least)
    }

    /// Whether something has come since this was last asked for which nobody waits: an event, a reply or a part of
    /// it, or the end. For whoever tells those that poll now and then; ask after each read.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Takes the large frame back, before [`end_read`](Caller::end_read).
    pub fn put_back(&mut self, partial: Vec<u8>) {
        self.connection.put_back(partial);
    }

    /// Something besides bytes has come with those that [`end_read`](Caller::end_read) is told of next.
    pub fn arrived(&mut self, arrived: Arrived) {
        self.arrived = Some(Box::new(arrived));
    }

    /// What the read found that began at `asked`. `seat` is the reader's, if he has one.
    pub fn end_read(&mut self, seat: Option<Seat>, came: Came<'_>, asked: Instant, now: Instant) {
        self.seats.end_read();
        self.take(came, asked, now);
        self.seats.appoint(seat);
    }

    /// The same for one who does not wait for input but is told of it, and goes on to read for all: what he found
    /// just now.
    pub fn read_on(&mut self, came: Came<'_>, asked: Instant, now: Instant) {
        self.take(came, asked, now);
    }

    /// He does not go on.
    pub fn stop_reading(&mut self) {
        self.seats.end_read();
        self.seats.appoint(None);
    }

    /// Whether anybody waits for what only a read can bring.
    pub fn is_read_wanted(&self) -> bool {
        self.seats.is_read_wanted()
    }

    fn take(&mut self, came: Came<'_>, asked: Instant, now: Instant) {
        match came {
            Came::Nothing => self.judge(asked, Input::Quiet),
            Came::Bytes { bytes, is_all } => {
                self.receive(bytes, now);
                self.unsubscribe_unwanted();
                self.judge(asked, if is_all { Input::Fresh } else { Input::Waiting });
                self.seats.wake_queue();
            }
            Came::End => {
                self.connection.end_of_input();
                self.end_with(End::Closed);
            }
            Came::Broken => {
                self.connection.end_of_input();
                self.end_with(End::Broken);
            }
        }
    }

    /// When whoever reads looks up although nothing has come.
    pub fn look_at(&self, now: Instant) -> Option<Instant> {
        match self.connection.has_unsent() {
            true => Some(now + WRITER_CHECK),
            false => self.connection.next_deadline(),
        }
    }
}

/// Sending.
impl<W: Wake> Caller<W> {
    /// What goes with the first byte [to be sent](Caller::to_send).
    #[inline]
    pub fn next_parcel(&self) -> Option<&Parcel> {
        self.connection.next_parcel()
    }

    /// What is to be sent now, if nobody is at it.
    #[inline(always)]
    pub fn to_send(&mut self) -> Option<&[u8]> {
        let may_send =
            self.seats.writing_since().is_none() && !self.is_over() && self.connection.has_unsent();
        may_send.then(|| self.connection.unsent())
    }

    /// Whether somebody waits until the channel takes more.
    pub fn is_somebody_writing(&self) -> bool {
        self.seats.writing_since().is_some()
    }

    /// Whether something waits to be sent.
    pub fn has_unsent(&self) -> bool {
        self.connection.has_unsent()
    }

    /// How many bytes wait to be sent.
    pub fn unsent_len(&self) -> usize {
        self.connection.waiting()
    }

    /// Somebody waits until the channel takes more.
    pub fn begin_write(&mut self, seat: Option<Seat>, now: Instant) {
        self.connection.begin_write();
        self.seats.begin_write(seat, now);
    }

    /// The channel took so many bytes.
    pub fn sent(&mut self, count: usize, now: Instant) {
        let was_backed_up = self.connection.flow().is_backed_up();
        self.connection.mark_sent(count, now);
        self.tell_failure();
        self.taken += count as u64;
        self.unsubscribe_unwanted();
        self.seats.end_write();
        if !self.connection.has_unsent() || was_backed_up && !self.connection.flow().is_backed_up() {
            self.seats.wake_queue();
        }
    }

    /// The channel took nothing in all the time since it was offered something.
    pub fn sent_nothing(&mut self, asked: Instant, now: Instant) {
        self.connection.mark_sent(0, now);
        self.seats.end_write();
        self.judge(asked, Input::Waiting);
    }

    /// The channel takes nothing more. What the server said before it left is still to be read, and tells
    /// more: to those who had waited for room, too, since whoever has found this out may not read.
    pub fn cannot_send(&mut self) {
        self.connection.discard_output();
        self.seats.end_write();
        self.seats.wake_queue();
    }

    /// Whoever sent has no time left: others look what is to be sent, and all of them, since one that
    /// reads, or that leaves as well, would not.
    pub fn give_up_sending(&self) {
        self.seats.wake_all();
    }
}

/// The end.
impl<W: Wake> Caller<W> {
    /// Behind a failure, or when both have said goodbye and nobody waits for a reply: what is to be sent if the
    /// channel takes it at once, before it is closed. Ask after each read and write.
    pub fn poll_close(&mut self) -> Option<Vec<u8>> {
        // Not in the middle of what is lent: the goodbye stands behind it.
        let is_whole = self.connection.borrowed().is_none();
        let is_said = self.connection.is_over() && self.course.is_leaving() && is_whole;
        if self.is_somebody_writing() || !(is_said || self.course.is_failing()) {
            return None;
        }
        self.course.finish();
        let words = memory::copy(self.connection.unaccompanied()).unwrap_or_default();
        self.connection.discard_output();
        self.taken += words.len() as u64;
        Some(words)
    }

    /// Says goodbye. Gives what is to be sent before the channel is closed, unless all is over, or somebody
    /// else is in the middle of sending.
    pub fn goodbye(&mut self) -> Option<&[u8]> {
        if self.is_over() || self.is_somebody_writing() {
            return None;
        }
        self.connection.goodbye(ResultCode::OK);
        Some(self.connection.unaccompanied())
    }

    /// Ends the connection from this side, at once: all who wait are woken, and learn it.
    pub fn close(&mut self) {
        self.end_with(End::Ours);
    }

    /// Ends the connection if one of its time limits has passed. While somebody waits for the channel to
    /// take more, what has happened there is known only as of when he began.
    pub(super) fn judge(&mut self, asked: Instant, input: Input) {
        let known = self.seats.writing_since().map_or(asked, |since| since.min(asked));
        if self.connection.next_deadline().is_some_and(|at| at <= known) {
            self.connection.handle_timeout(known, input);
        }
        self.judge_owed(known);
        self.tell_failure();
    }

    /// Lets those who wait know that the connection has failed, if it has.
    #[inline]
    fn tell_failure(&mut self) {
        if let Some(error) = self.connection.flow().failure()
            && !self.course.is_over()
        {
            self.course.fail(error.clone());
            self.has_news = true;
            self.seats.wake_all();
        }
    }

    fn end_with(&mut self, end: End) {
        // Where we end it, the server may still read what has left.
        if end != End::Ours {
            self.connection.let_go();
        }
        let failure = self.connection.flow().failure().filter(|_| end == End::Closed);
        self.course.close(failure.map_or(end, |error| End::Failed(error.clone())));
        self.has_news = true;
        self.seats.wake_all();
    }
}
