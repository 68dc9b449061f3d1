//! What a loop writes: a handful of stores for each request, and nothing else.

use std::cell::Cell;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::time::{Duration, Instant};

use sidewire_platform::{RING_RECORDS, RecordCells, Recording};
use sidewire_wire::ResultCode;

use super::record::{DEFERRED, Ran, RecordKind, SLOW, STEP, narrow, wide};

/// The number of a connection that there is not.
pub(crate) const NOBODY: u32 = u32::MAX;

/// Behind so many records is said anew whose turn it is: while those are told of, what says so is not written over.
const MARK_EVERY: u64 = 512 * STEP;

/// How old what is written as the time of a turn may be: to reckon it takes twice as long as all that is written for a request.
const TICK: Duration = Duration::from_millis(1);

/// A loop's ring, written by its thread alone.
#[derive(Debug)]
pub(crate) struct Recorder {
    recording: Recording,
    /// What all times are reckoned from.
    base: Instant,
    /// The next record's number, times its size.
    next: Cell<u64>,
    /// When the turn began, or at most a [`TICK`] earlier.
    at: Cell<u64>,
    /// From when on that is to be reckoned anew.
    stale_at: Cell<Instant>,
    /// The last record that says whose turn it is.
    marked: Cell<u64>,
}

/// Something that was begun.
#[derive(Clone, Copy, Debug)]
#[must_use = "it has to be ended"]
pub(crate) struct Begun<'a>(&'a RecordCells);

impl Recorder {
    pub(crate) fn new(base: Instant) -> Recorder {
        Recorder {
            recording: Recording::in_memory(),
            base,
            next: Cell::new(STEP),
            at: Cell::new(0),
            stale_at: Cell::new(base),
            marked: Cell::new(STEP),
        }
    }

    /// From here on it is kept there. What was recorded before is not.
    pub(crate) fn keep_in(&mut self, recording: Recording) {
        self.recording = recording;
    }

    /// Where it is kept.
    pub(crate) fn recording(&self) -> &Recording {
        &self.recording
    }

    /// What times are reckoned from.
    pub(crate) fn base(&self) -> Instant {
        self.base
    }

    /// The loop turns to this connection. That is said with what is recorded next.
    #[inline]
    pub(crate) fn begin_turn(&self, connection: u32, now: Instant) {
        if now >= self.stale_at.get() {
            self.reckon(now);
        }
        let at = self.at.get();
        self.mark(connection, at, at);
    }

    #[cold]
    fn reckon(&self, now: Instant) {
        self.at.set(self.nanos(now));
        self.stale_at.set(now.checked_add(TICK).unwrap_or(now));
    }

    #[inline(always)]
    fn mark(&self, connection: u32, begun: u64, at: u64) {
        let next = self.next.get();
        self.marked.set(next);
        // This place holds one of the older half of the ring, of which nobody is told.
        let (wide, narrow) = (self.cells(next).wide(), self.cells(next).narrow());
        wide[wide::BEGUN].store(begun, Relaxed);
        wide[wide::AT].store(at, Relaxed);
        narrow[narrow::CONNECTION].store(connection, Relaxed);
        narrow[narrow::MARK].store(next as u32, Relaxed);
    }

    /// What is handled first in this turn, which has begun now, has waited since then.
    #[cold]
    pub(crate) fn has_waited_since(&self, since: Instant, now: Instant) {
        let wide = self.cells(self.marked.get()).wide();
        wide[wide::BEGUN].store(self.nanos(since), Relaxed);
        wide[wide::AT].store(self.nanos(now), Relaxed);
    }

    /// A handler of the connection whose turn it is will run. So what it does not survive is the last record, and not ended.
    /// `id`: that of a call, which in the classic layout has none.
    #[inline(always)]
    pub(crate) fn begin(&self, kind: RecordKind, msg_type: i32, id: u32, length: usize) -> Begun<'_> {
        let number = self.next.get();
        self.next.set(number + STEP);
        let cells = self.cells(number);
        let (wide, narrow) = (cells.wide(), cells.narrow());
        narrow[narrow::KIND].store(kind as u32, Relaxed);
        narrow[narrow::TYPE].store(msg_type.cast_unsigned(), Relaxed);
        narrow[narrow::ID].store(id, Relaxed);
        // What is longer than that is no frame.
        narrow[narrow::LENGTH].store(length as u32, Relaxed);
        narrow[narrow::PROGRESS].store(0, Relaxed);
        // Last: until then it is none.
        wide[wide::NUMBER].store(number, Release);
        Begun(cells)
    }

    #[inline(always)]
    fn cells(&self, number: u64) -> &RecordCells {
        &self.recording.ring()[(number / STEP) as usize % RING_RECORDS]
    }

    /// The clock was read behind so many, which took so many nanoseconds together; all of this turn have taken so many.
    #[inline(always)]
    pub(crate) fn looked(&self, nanos: u64, count: u32, taken: u64) {
        let next = self.next.get();
        let cells = self.cells(next - STEP);
        cells.wide()[wide::TOOK].store(nanos, Relaxed);
        cells.narrow()[narrow::PROGRESS].store(count + 1, Relaxed);
        if next - self.marked.get() >= MARK_EVERY {
            self.mark_anew(taken);
        }
    }

    /// So that the mark is there as long as those that it is for.
    #[cold]
    fn mark_anew(&self, taken: u64) {
        let last = self.cells(self.marked.get());
        let begun = last.wide()[wide::BEGUN].load(Relaxed);
        self.mark(last.narrow()[narrow::CONNECTION].load(Relaxed), begun, self.at.get() + taken);
    }

    /// Something has happened to this connection for which no handler runs.
    #[cold]
    pub(crate) fn note(&self, kind: RecordKind, connection: u32, now: Instant, id: u32) {
        self.begin_turn(connection, now);
        self.begin(kind, 0, id, 0).end();
    }

    /// A deferred call was answered.
    #[cold]
    pub(crate) fn note_answer(&self, connection: u32, now: Instant, call: (i32, u32), rc: ResultCode) {
        self.begin_turn(connection, now);
        let (msg_type, id) = call;
        self.begin(RecordKind::Answer, msg_type, id, 0).answered(rc);
    }

    /// Those behind which the clock was read last were slow, or one of them was. Which they are, in order.
    #[cold]
    pub(crate) fn mark_slow(&self) -> Vec<Ran> {
        let next = self.next.get();
        let count = self.cells(next - STEP).narrow()[narrow::PROGRESS].load(Relaxed).saturating_sub(1);
        // Others of this user can write there, too.
        let count = count.min(RING_RECORDS as u32);
        let all = (1..=u64::from(count)).rev().filter_map(|back| next.checked_sub(back * STEP));
        let marked = all.map(|number| self.cells(number)).inspect(|cells| {
            let kind = &cells.narrow()[narrow::KIND];
            kind.store(kind.load(Relaxed) | SLOW, Relaxed);
        });
        marked.filter_map(Ran::of_cells).collect()
    }

    #[inline]
    fn nanos(&self, now: Instant) -> u64 {
        // Which 64 bits hold for 584 years.
        now.saturating_duration_since(self.base).as_nanos() as u64
    }
}

impl Begun<'_> {
    /// It was answered.
    #[inline]
    pub(crate) fn answered(self, rc: ResultCode) {
        self.0.narrow()[narrow::RC].store(rc.code().cast_unsigned(), Relaxed);
        self.end();
    }

    /// Its handler has returned.
    #[inline]
    pub(crate) fn end(self) {
        self.0.narrow()[narrow::PROGRESS].store(1, Release);
    }

    /// It will be answered later.
    #[cold]
    pub(crate) fn deferred(self) {
        let kind = &self.0.narrow()[narrow::KIND];
        kind.store(kind.load(Relaxed) | DEFERRED, Relaxed);
        self.end();
    }
}
