//! How other threads reach the loop: a word that it is to stop, a bounded queue of letters, and a waker.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What other threads tell the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Letter {
    /// The datagram socket with this number has something (mailslots, which can't be polled).
    Ready(u16),
}

/// Shared by the loop and everyone who writes to it.
pub(crate) struct Mailbox {
    contents: Mutex<Contents>,
    waker: Waker,
}

/// Has the loop's poll return.
pub(crate) type Waker = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

#[derive(Debug, Default)]
struct Contents {
    stop: Stop,
    letters: VecDeque<Letter>,
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

/// What the loop finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mail {
    /// It is to end: no new requests, and everything that is under way is finished within this time.
    pub(crate) stop: Option<Duration>,
    pub(crate) letters: VecDeque<Letter>,
}

/// Most letters that wait at a time.
const CAPACITY: usize = 4096;

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Mailbox {
        Mailbox { contents: Mutex::default(), waker }
    }

    /// Leaves a letter and wakes the loop. Never waits: a full mailbox is `WouldBlock`.
    pub(crate) fn post(&self, letter: Letter) -> io::Result<()> {
        let mut contents = self.contents();
        if contents.letters.len() >= CAPACITY {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        contents.letters.push_back(letter);
        drop(contents);
        (self.waker)()
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
        drop(contents);
        (self.waker)()
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> Mail {
        let mut contents = self.contents();
        let letters = std::mem::take(&mut contents.letters);
        let stop = match contents.stop {
            Stop::Within(grace) => {
                contents.stop = Stop::Heard;
                Some(grace)
            }
            Stop::Never | Stop::Heard => None,
        };
        Mail { stop, letters }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("contents", &self.contents).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_full_mailbox_still_takes_the_word_to_stop() {
        let mailbox = Mailbox::new(Box::new(|| Ok(())));
        for number in 0..CAPACITY {
            mailbox.post(Letter::Ready(u16::try_from(number).expect("small"))).expect("room");
        }
        let refused = mailbox.post(Letter::Ready(0)).expect_err("no room");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        mailbox.stop(SECOND).expect("never refused");
        let mail = mailbox.take();
        assert_eq!((mail.stop, mail.letters.len()), (Some(SECOND), CAPACITY));
        mailbox.post(Letter::Ready(7)).expect("room again");
        assert_eq!(mailbox.take(), Mail { stop: None, letters: [Letter::Ready(7)].into() });
    }

    #[test]
    fn of_several_words_to_stop_the_shortest_counts() {
        let mailbox = Mailbox::new(Box::new(|| Ok(())));
        for seconds in [5, 2, 9] {
            mailbox.stop(SECOND * seconds).expect("never refused");
        }
        assert_eq!(mailbox.take().stop, Some(2 * SECOND));
        mailbox.stop(SECOND).expect("never refused");
        assert_eq!((mailbox.take().stop, mailbox.take().stop), (Some(SECOND), None));
    }

    #[test]
    fn who_can_t_be_woken_is_told_all_the_same() {
        let mailbox = Mailbox::new(Box::new(|| Err(io::ErrorKind::OutOfMemory.into())));
        assert!(mailbox.stop(SECOND).is_err());
        assert_eq!(mailbox.take().stop, Some(SECOND));
    }
}
