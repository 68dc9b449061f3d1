//! How the loop is reached, by other threads and by what it has called itself: a word that it is to stop, a
//! queue of letters, and a waker.
//!
//! All letters stand in one queue, so that those of one thread are read in the order in which it wrote them.
//! A handler's own are read behind what its link had to do and write, so that its reply leaves before what
//! it has the loop do for others.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::task;
use std::time::Duration;

use super::PeerInfo;
use super::deferred::{Answer, Call, Caller, Heap, Unwanted};
use super::slots::Key;
use super::streams::Together;
use super::topics::{Audience, Publication};
use crate::sync::{AtomicBool, Mutex, MutexGuard, own_place};
use sidewire_wire::memory::NoMemory;

/// What the loop is told to do.
#[derive(Debug)]
pub(crate) enum Letter {
    /// The datagram socket with this number has something (mailslots, which can't be polled).
    Ready(u16),
    /// A closure waits for the state.
    Run,
    /// Something is to be done for one connection.
    Order,
    /// Whoever is at the other end of this connection takes over the endpoint at which it has come in.
    GiveWay(Key),
    /// Somebody wants to know who is connected.
    Census(SyncSender<Vec<PeerInfo>>),
    /// Somebody has answered a deferred call. Its place was paid when the call was deferred.
    Answer(Arc<Call>, Answer),
    /// Somebody has left parts of a reply. There is one of a reply at most.
    Parts(Arc<Call>),
    /// All who have subscribed to a topic are to be told.
    Publish(Publication),
}

/// Shared by the loop and everyone who writes to it.
pub(crate) struct Mailbox {
    contents: Mutex<Contents>,
    /// Whether there is something in it: for the loop, which so need not ask for the lock.
    has_mail: AtomicBool,
    /// Whether the loop looks for mail before it sleeps, or was woken for that: then nobody need wake it.
    is_awake: AtomicBool,
    audience: Audience,
    parts: Together,
    heap: Heap,
    notifies: Heap,
    waker: Waker,
}

/// As long as it is there, a thread turns the loop. Then that goes and does something else, between turns or for good:
/// whoever writes meanwhile wakes the loop, which is not left asleep over what was written just now either.
#[must_use]
#[derive(Debug)]
pub(crate) struct Turning(Arc<Mailbox>);

impl Drop for Turning {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// From here on this thread turns the loop.
pub(crate) fn serve_from(mailbox: &Arc<Mailbox>, thread: ThreadMark) -> Turning {
    mailbox.contents().turner = Turner::Turns(thread);
    mailbox.wakes_up();
    Turning(Arc::clone(mailbox))
}

/// Why a letter does not do what it is for.
#[derive(Debug)]
pub(crate) enum Unposted {
    /// Too many wait already.
    Full,
    /// The loop has ended.
    Closed,
    /// There is no memory for what it says.
    NoMemory,
    /// The system can't wake the loop. It reads the letter all the same when it next turns.
    NotWoken(io::Error),
}

/// Has the loop's poll return.
pub(crate) type Waker = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

#[derive(Debug, Default)]
struct Contents {
    stop: Stop,
    /// There is always room in it for those that were paid for and not written yet.
    letters: VecDeque<Letter>,
    /// How many in it were not paid for.
    unpaid: usize,
    /// How many were paid for and not written yet.
    reserved: usize,
    /// How much was published so far.
    published: u64,
    turner: Turner,
    /// Who turns the loop in a task of a runtime: is woken in its place.
    task: Option<task::Waker>,
    /// Whether nobody will read any more.
    is_closed: bool,
}

/// Who turns the loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turner {
    #[default]
    Nobody,
    /// This thread does, and reads what it writes itself before it sleeps: it is not to be woken for that.
    Turns(ThreadMark),
    /// This one did, and is about something else, perhaps asleep.
    Rests(ThreadMark),
}

impl Turner {
    /// Whether it is this thread, in a turn.
    fn turns_here(self) -> bool {
        self == Turner::Turns(ThreadMark::here())
    }
}

/// Whether the loop is to end. Not a letter, so that no lack of room can refuse it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stop {
    #[default]
    Never,
    /// The loop has not heard of it yet: everything that is under way is to be finished within this time.
    Within(Duration),
    /// It has.
    Heard,
}

impl Contents {
    /// Makes room for one more besides all that are paid for.
    fn make_room(&mut self) -> Result<(), NoMemory> {
        Ok(self.letters.try_reserve(self.reserved + 1)?)
    }
}

impl Letter {
    fn is_paid(&self) -> bool {
        matches!(self, Letter::Answer(..) | Letter::Parts(_))
    }
}

/// Most letters that wait at a time, besides those that were paid for.
const CAPACITY: usize = 4096;
/// Of a queue that is empty, places that are worth keeping.
const KEEP: usize = 4096;

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Mailbox {
        let (contents, has_mail, is_awake, audience, parts, heap, notifies) = Default::default();
        Mailbox { contents, has_mail, is_awake, audience, parts, heap, notifies, waker }
    }

    /// Who would be told of what is published, for whoever knows that.
    pub(crate) fn audience(&self) -> Audience {
        self.audience.clone()
    }

    /// What waits of replies that come in parts, for those replies.
    pub(super) fn parts(&self) -> &Together {
        &self.parts
    }

    /// What is under way and for nobody. Notifies have their own: of them nobody hears that they are for naught, and
    /// so they may stay for ever.
    pub(super) fn heap(&self, caller: Caller) -> &Heap {
        match caller {
            Caller::Stream(_) | Caller::Datagram(..) => &self.heap,
            Caller::Nobody(_) => &self.notifies,
        }
    }

    /// Leaves word for all who have subscribed to a topic, if there is anybody.
    pub(crate) fn publish(&self, topic: u16, payload: &[u8]) -> Result<(), Unposted> {
        self.publish_behind(0, topic, payload)
    }

    /// The same, behind so many that were lost.
    pub(crate) fn publish_behind(&self, missed: u32, topic: u16, payload: &[u8]) -> Result<(), Unposted> {
        if self.audience.is_empty() {
            return if self.contents().is_closed { Err(Unposted::Closed) } else { Ok(()) };
        }
        let publication = Publication::of(topic, payload).map_err(|NoMemory| Unposted::NoMemory)?;
        self.post(Letter::Publish(Publication { missed, ..publication }))
    }

    /// The number of what is published next.
    pub(crate) fn next_publication(&self) -> u64 {
        self.contents().published
    }

    /// Leaves a letter, and wakes the loop unless it is awake. Never waits. What handlers publish is read when
    /// their link has had its turn, if only since the mailbox is full, and so has room: one turn does not bring more than
    /// that.
    ///
    /// # Errors
    /// There is no room for it, or nobody who would read it.
    pub(crate) fn post(&self, mut letter: Letter) -> Result<(), Unposted> {
        let mut contents = self.contents();
        if contents.is_closed {
            return Err(Unposted::Closed);
        }
        let is_handlers = matches!(letter, Letter::Publish(_)) && contents.turner.turns_here();
        let is_full = contents.unpaid >= CAPACITY && !is_handlers;
        if is_full || contents.make_room().is_err() {
            return Err(Unposted::Full);
        }
        if let Letter::Publish(publication) = &mut letter {
            publication.number = contents.published;
            contents.published += 1;
        }
        contents.unpaid += 1;
        contents.letters.push_back(letter);
        self.deliver(contents).map_err(Unposted::NotWoken)
    }

    /// Whether this is the thread that turns the loop, and could not wait for it.
    pub(crate) fn is_loops_thread(&self) -> bool {
        match self.contents().turner {
            Turner::Nobody => false,
            Turner::Turns(thread) | Turner::Rests(thread) => thread == ThreadMark::here(),
        }
    }

    /// Whether so many letters wait that whoever makes more of them has to wait for the loop.
    pub(crate) fn is_full(&self) -> bool {
        self.contents().unpaid >= CAPACITY
    }

    /// Pays for a letter that will be [posted](Mailbox::post_reserved) later.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn reserve(&self) -> Result<(), NoMemory> {
        let mut contents = self.contents();
        contents.make_room()?;
        contents.reserved += 1;
        Ok(())
    }

    /// Leaves word of parts of a reply. It needs no place of those that all share: there are no more of these than
    /// replies.
    ///
    /// # Errors
    /// There is no memory for it, or nobody who would read it.
    pub(crate) fn post_parts(&self, letter: Letter) -> Result<(), Unposted> {
        let mut contents = self.contents();
        if contents.is_closed {
            return Err(Unposted::Closed);
        }
        contents.make_room().map_err(|NoMemory| Unposted::NoMemory)?;
        contents.letters.push_back(letter);
        self.deliver(contents).map_err(Unposted::NotWoken)
    }

    /// Leaves a letter that was paid for. If nobody will read it any more it is dropped.
    pub(crate) fn post_reserved(&self, letter: Letter) {
        let mut contents = self.contents();
        contents.reserved -= 1;
        if contents.is_closed {
            drop(contents);
            return drop(letter);
        }
        contents.letters.push_back(letter);
        if let Err(error) = self.deliver(contents) {
            log::error!("an answer waits until the server's loop turns by itself: {error}");
        }
    }

    /// Tells the loop to end and wakes it. A second word can hurry it, not hold it up.
    ///
    /// # Errors
    /// If the system can't wake the loop. It hears of it all the same when it next turns.
    pub(crate) fn stop(&self, grace: Duration) -> io::Result<()> {
        let mut contents = self.contents();
        contents.stop = Stop::Within(match contents.stop {
            Stop::Within(before) => before.min(grace),
            Stop::Never | Stop::Heard => grace,
        });
        self.deliver(contents)
    }

    fn deliver(&self, contents: MutexGuard<'_, Contents>) -> io::Result<()> {
        // Under the lock, so that it is never false while something is there.
        self.has_mail.store(true, Ordering::SeqCst);
        drop(contents);
        // Of this and what the loop does before it sleeps one comes first: either it sees the mail, or we
        // see that it sleeps.
        match self.is_awake.swap(true, Ordering::SeqCst) {
            true => Ok(()),
            false => self.wake(),
        }
    }

    fn wake(&self) -> io::Result<()> {
        let task = self.contents().task.clone();
        match task {
            // In the same thread that is no system call.
            Some(task) => task.wake(),
            None => (self.waker)().inspect_err(|_| self.is_awake.store(false, Ordering::SeqCst))?,
        }
        Ok(())
    }

    /// From here on this task is woken when there is mail, and not the poll.
    #[cfg(any(feature = "tokio", all(test, loom)))]
    pub(crate) fn wakes_task(&self, task: &task::Waker) {
        let mut contents = self.contents();
        if contents.task.as_ref().is_none_or(|before| !before.will_wake(task)) {
            let before = contents.task.replace(task.clone());
            drop(contents);
            // It may hold whatever its executor likes, which may write to us.
            drop(before);
        }
    }

    /// From here on the poll is, again: whoever turns the loop looks after that, since a task may have been forgotten.
    pub(crate) fn wakes_poll(&self) {
        let task = self.contents().task.take();
        drop(task);
    }

    /// The loop is about to sleep; whoever writes from now on wakes it. `false`: there is mail, and it is not to.
    #[inline]
    #[must_use]
    pub(crate) fn falls_asleep(&self) -> bool {
        self.is_awake.store(false, Ordering::SeqCst);
        let may_sleep = !self.has_mail.load(Ordering::SeqCst);
        if !may_sleep {
            self.wakes_up();
        }
        may_sleep
    }

    /// The loop does not sleep, and will look for mail before it does.
    #[inline]
    pub(crate) fn wakes_up(&self) {
        // Who does not see this yet wakes it for nothing, and that is all.
        self.is_awake.store(true, Ordering::Relaxed);
    }

    /// Whether there is something to read.
    #[inline]
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    fn rest(&self) {
        let mut contents = self.contents();
        if let Turner::Turns(thread) = contents.turner {
            contents.turner = Turner::Rests(thread);
        }
        drop(contents);
        if !self.falls_asleep()
            && let Err(error) = self.wake()
        {
            log::error!("mail waits until the server's loop turns by itself: {error}");
        }
    }

    /// The word to stop, once. And how many letters were there then: those that come meanwhile are for later.
    pub(crate) fn open(&self) -> (Option<Duration>, usize) {
        let mut contents = self.contents();
        let stop = match contents.stop {
            Stop::Within(grace) => {
                contents.stop = Stop::Heard;
                Some(grace)
            }
            Stop::Never | Stop::Heard => None,
        };
        self.has_mail.store(!contents.letters.is_empty(), Ordering::Release);
        (stop, contents.letters.len())
    }

    /// The next letter.
    pub(crate) fn take(&self) -> Option<Letter> {
        let mut contents = self.contents();
        let letter = contents.letters.pop_front();
        contents.unpaid -= usize::from(letter.as_ref().is_some_and(|letter| !letter.is_paid()));
        if contents.letters.is_empty() && contents.letters.capacity() > KEEP {
            let places = contents.reserved;
            contents.letters.shrink_to(places);
        }
        let is_empty = contents.letters.is_empty() && !matches!(contents.stop, Stop::Within(_));
        self.has_mail.store(!is_empty, Ordering::Release);
        letter
    }

    /// It is to be read another time, before all others.
    pub(crate) fn put_back(&self, letter: Letter) {
        let mut contents = self.contents();
        contents.unpaid += usize::from(!letter.is_paid());
        contents.letters.push_front(letter);
        self.has_mail.store(true, Ordering::Release);
    }

    /// Nobody will read any more. What is in it is read by nobody.
    pub(crate) fn close(&self) {
        let mut contents = self.contents();
        contents.is_closed = true;
        let unread = std::mem::take(&mut contents.letters);
        drop(contents);
        // Whatever they hold may write letters when it is dropped.
        for letter in unread {
            if let Letter::Parts(call) = letter {
                call.is_unwanted(Unwanted::Disconnected);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.contents().letters.len()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a thread from all others that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadMark(usize);

impl ThreadMark {
    /// This one's.
    #[inline]
    pub(crate) fn here() -> ThreadMark {
        ThreadMark(own_place())
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("contents", &self.contents).finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn read(mailbox: &Mailbox) -> (Option<Duration>, Vec<Letter>) {
        let (stop, count) = mailbox.open();
        let letters = std::iter::from_fn(|| mailbox.take()).take(count).collect();
        (stop, letters)
    }

    #[test]
    fn a_full_mailbox_still_takes_the_word_to_stop() {
        let mailbox = Mailbox::new(Box::new(|| Ok(())));
        for number in 0..CAPACITY {
            mailbox.post(Letter::Ready(u16::try_from(number).expect("small"))).expect("room");
        }
        let refused = mailbox.post(Letter::Ready(0)).expect_err("no room");
        assert!(matches!(refused, Unposted::Full), "{refused:?}");
        mailbox.stop(SECOND).expect("never refused");
        let (stop, letters) = read(&mailbox);
        assert_eq!((stop, letters.len()), (Some(SECOND), CAPACITY));
        mailbox.post(Letter::Ready(7)).expect("room again");
        let (stop, letters) = read(&mailbox);
        assert!(stop.is_none() && matches!(letters[..], [Letter::Ready(7)]), "{letters:?}");
    }

    #[test]
    fn of_several_words_to_stop_the_shortest_counts() {
        let mailbox = Mailbox::new(Box::new(|| Ok(())));
        for seconds in [5, 2, 9] {
            mailbox.stop(SECOND * seconds).expect("never refused");
        }
        assert_eq!(mailbox.open().0, Some(2 * SECOND));
        mailbox.stop(SECOND).expect("never refused");
        assert_eq!((mailbox.open().0, mailbox.open().0), (Some(SECOND), None));
    }

    #[test]
    fn who_can_t_be_woken_is_told_all_the_same() {
        let mailbox = Mailbox::new(Box::new(|| Err(io::ErrorKind::OutOfMemory.into())));
        for _ in 0..2 {
            assert!(mailbox.stop(SECOND).is_err(), "each tries anew");
        }
        assert_eq!(mailbox.open().0, Some(SECOND));
    }

    /// A mailbox, and how often the loop was woken.
    fn counting() -> (Arc<Mailbox>, Arc<AtomicUsize>) {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let waker = move || {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        };
        (Arc::new(Mailbox::new(Box::new(waker))), woken)
    }

    #[test]
    fn the_loop_is_woken_once_for_all_that_it_reads_at_once() {
        let (mailbox, woken) = counting();
        for expected in [1, 2] {
            for _ in 0..3 {
                mailbox.post(Letter::Run).expect("room");
            }
            assert!(mailbox.has_mail() && !mailbox.falls_asleep());
            assert_eq!((read(&mailbox).1.len(), woken.load(Ordering::Relaxed)), (3, expected));
            assert!(!mailbox.has_mail() && mailbox.falls_asleep());
        }
    }

    #[test]
    fn nobody_wakes_the_loop_in_its_own_turn() {
        let (mailbox, woken) = counting();
        let _turning = serve_from(&mailbox, ThreadMark::here());
        mailbox.post(Letter::Run).expect("room");
        assert_eq!((woken.load(Ordering::Relaxed), mailbox.has_mail()), (0, true));
        assert!(!mailbox.falls_asleep(), "it is read first");
    }

    #[test]
    fn others_wake_the_loop_only_while_it_sleeps() {
        let (mailbox, woken) = counting();
        let _turning = serve_from(&mailbox, ThreadMark::here());
        let post = || std::thread::scope(|scope| scope.spawn(|| mailbox.post(Letter::Run)).join());
        for expected in [0, 1, 1] {
            post().expect("a thread").expect("room");
            assert_eq!((woken.load(Ordering::Relaxed), read(&mailbox).1.len()), (expected, 1));
            match expected {
                0 => assert!(mailbox.falls_asleep()),
                _ => mailbox.wakes_up(),
            }
        }
    }

    #[test]
    fn nobody_rests_over_mail() {
        let (mailbox, woken) = counting();
        let turning = serve_from(&mailbox, ThreadMark::here());
        mailbox.post(Letter::Run).expect("room");
        drop(turning);
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        mailbox.post(Letter::Run).expect("room");
        assert_eq!(woken.load(Ordering::Relaxed), 1, "it was woken already");
    }

    #[test]
    fn between_turns_everybody_wakes_the_loop() {
        let (mailbox, woken) = counting();
        drop(serve_from(&mailbox, ThreadMark::here()));
        assert!(mailbox.is_loops_thread(), "it must not wait for itself");
        mailbox.post(Letter::Run).expect("room");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_loop_that_has_panicked_does_not_pass_for_awake() {
        let (mailbox, woken) = counting();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _turning = serve_from(&mailbox, ThreadMark::here());
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        mailbox.post(Letter::Run).expect("room");
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_full_mailbox_still_takes_what_a_handler_publishes() {
        let mailbox = Arc::new(Mailbox::new(Box::new(|| Ok(()))));
        let publication = || Letter::Publish(Publication::of(7, b"x").expect("memory"));
        while mailbox.post(Letter::Run).is_ok() {}
        assert!(mailbox.post(publication()).is_err());
        let _turning = serve_from(&mailbox, ThreadMark::here());
        assert!(mailbox.post(Letter::Run).is_err());
        mailbox.post(publication()).expect("its turn has an end");
        assert_eq!((read(&mailbox).1.len(), mailbox.next_publication()), (CAPACITY + 1, 1));
    }

    #[test]
    fn a_closed_mailbox_takes_nothing() {
        let mailbox = Mailbox::new(Box::new(|| Ok(())));
        mailbox.post(Letter::Run).expect("room");
        mailbox.close();
        assert!(mailbox.take().is_none());
        let refused = mailbox.post(Letter::Run).expect_err("nobody would read it");
        assert!(matches!(refused, Unposted::Closed), "{refused:?}");
        mailbox.stop(SECOND).expect("it has stopped");
    }
}
