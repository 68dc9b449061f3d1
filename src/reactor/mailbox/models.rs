//! In each order in which threads can meet at the mailbox: nothing that was left there is lost, and nobody sleeps over it.
//! Loom calls it a deadlock when the loop does. `ci/deep` runs them.

use std::sync::Arc;

use loom::model::Builder;
use loom::sync::Notify;
use loom::thread;

use super::*;

const GRACE: Duration = Duration::from_secs(1);

/// A mailbox, and what its waker wakes: as an eventfd, it remembers that it was told.
fn mailbox() -> (Arc<Mailbox>, Arc<Notify>) {
    let told = Arc::new(Notify::new());
    let waker = Arc::clone(&told);
    let wake = move || {
        waker.notify();
        Ok(())
    };
    (Arc::new(Mailbox::new(Box::new(wake))), told)
}

/// Tries what is left after so many threads were stopped in the middle.
fn try_all(most: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(most);
    builder.check(model);
}

fn post(mailbox: &Arc<Mailbox>, number: u16) -> thread::JoinHandle<()> {
    let mailbox = Arc::clone(mailbox);
    thread::spawn(move || mailbox.post(Letter::Ready(number)).expect("there is room"))
}

/// What the loop has read.
#[derive(Debug, Default)]
struct Read {
    numbers: Vec<u16>,
    stops: usize,
}

impl Read {
    /// As `Reactor::poll` and `read_mail`, until this is the case.
    fn turn_until(&mut self, (mailbox, told): (&Mailbox, &Notify), is_done: impl Fn(&Read) -> bool) {
        while !is_done(self) {
            if mailbox.falls_asleep() {
                told.wait();
            }
            mailbox.wakes_up();
            self.read(mailbox);
        }
    }

    fn read(&mut self, mailbox: &Mailbox) {
        if mailbox.has_mail() {
            let (stop, count) = mailbox.open();
            self.stops += usize::from(stop.is_some());
            self.numbers.extend((0..count).map(|_| match mailbox.take() {
                Some(Letter::Ready(number)) => number,
                other => panic!("nobody wrote {other:?}"),
            }));
        }
    }
}

/// Wakes a task, which remembers it.
struct Woken(Arc<Notify>);

impl task::Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.0.notify();
    }
}

#[test]
fn no_letter_is_slept_over() {
    try_all(3, || {
        let (mailbox, told) = mailbox();
        let turning = serve_from(&mailbox, ThreadMark::here());
        let writers = [post(&mailbox, 1), post(&mailbox, 2)];
        let mut read = Read::default();
        read.turn_until((&mailbox, &told), |read| read.numbers.len() == 2);
        read.numbers.sort_unstable();
        assert_eq!((&read.numbers[..], mailbox.has_mail()), (&[1, 2][..], false));
        writers.into_iter().for_each(|writer| writer.join().expect("it does not panic"));
        drop(turning);
    });
}

#[test]
fn the_word_to_stop_is_heard_once_and_no_letter_is_lost_beside_it() {
    try_all(3, || {
        let (mailbox, told) = mailbox();
        let turning = serve_from(&mailbox, ThreadMark::here());
        let stopping = Arc::clone(&mailbox);
        let stopper = thread::spawn(move || stopping.stop(GRACE).expect("it can be woken"));
        let writer = post(&mailbox, 1);
        let mut read = Read::default();
        read.turn_until((&mailbox, &told), |read| read.stops > 0 && !read.numbers.is_empty());
        assert_eq!((&read.numbers[..], read.stops, mailbox.has_mail()), (&[1][..], 1, false));
        stopper.join().expect("it does not panic");
        writer.join().expect("it does not panic");
        drop(turning);
    });
}

/// A loop in a task, as `Server::run_async`: the task waits behind each turn, and nothing but its waker wakes it.
#[test]
fn a_task_sleeps_over_no_letter() {
    try_all(3, || {
        let (mailbox, _poll) = mailbox();
        let told = Arc::new(Notify::new());
        let task = task::Waker::from(Arc::new(Woken(Arc::clone(&told))));
        let writers = [post(&mailbox, 1), post(&mailbox, 2)];
        let mut read = Read::default();
        loop {
            let turning = serve_from(&mailbox, ThreadMark::here());
            read.read(&mailbox);
            drop(turning);
            if read.numbers.len() == 2 {
                break;
            }
            mailbox.wakes_task(&task);
            if mailbox.falls_asleep() {
                told.wait();
            }
        }
        mailbox.wakes_poll();
        writers.into_iter().for_each(|writer| writer.join().expect("it does not panic"));
        assert!(!mailbox.has_mail());
    });
}

/// A program that turns the loop itself goes to sleep elsewhere, where only the waker wakes it.
#[test]
fn nobody_rests_over_mail_that_comes_as_he_goes() {
    try_all(3, || {
        let (mailbox, told) = mailbox();
        let turning = serve_from(&mailbox, ThreadMark::here());
        let writers = [post(&mailbox, 1), post(&mailbox, 2)];
        if mailbox.has_mail() {
            let (_, count) = mailbox.open();
            (0..count).for_each(|_| drop(mailbox.take()));
        }
        drop(turning);
        writers.into_iter().for_each(|writer| writer.join().expect("it does not panic"));
        if mailbox.has_mail() {
            told.wait();
        }
    });
}

/// A thread that comes while another closes it is told so, or its letter was there before.
#[test]
fn a_letter_is_refused_or_left_behind_once_nobody_reads() {
    try_all(3, || {
        let (mailbox, _told) = mailbox();
        let writing = Arc::clone(&mailbox);
        let writer = thread::spawn(move || writing.post(Letter::Run).is_ok());
        mailbox.close();
        writer.join().expect("it does not panic");
        assert_eq!(mailbox.len(), 0);
        assert!(matches!(mailbox.post(Letter::Run), Err(Unposted::Closed)));
    });
}
