//! Things that one task waits for, many at a time, each of which is looked at only when its own waker rings; and when it has
//! lasted too long. A task and a timer of Tokio's for each would do the same, and cost more.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

#[derive(Debug)]
pub(super) struct Open<T> {
    bell: Arc<Bell>,
    places: Vec<Place<T>>,
    free: Vec<usize>,
    /// How many there were so far.
    count: u64,
    /// When each is late, in the order in which they came, which is the same.
    due: VecDeque<Due>,
    /// Until the first of those that were there when it was set, which may be gone: so it is set once for many.
    clock: Pin<Box<Sleep>>,
    is_set: bool,
    rings_late: Waker,
}

/// Where one waits. The next one that does has the same waker: one that rings too often does no harm.
#[derive(Debug)]
struct Place<T> {
    ring: Arc<Ring>,
    waker: Waker,
    /// With its number.
    here: Option<(u64, T)>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    place: usize,
    number: u64,
}

/// Whom the wakers wake.
#[derive(Debug)]
struct Bell {
    task: Waker,
    rung: Mutex<VecDeque<usize>>,
    is_late: AtomicBool,
}

#[derive(Debug)]
struct Ring {
    bell: Arc<Bell>,
    place: usize,
    is_rung: AtomicBool,
}

/// Rings when the clock does.
struct Late(Arc<Bell>);

impl<T> Open<T> {
    /// For the task with this waker.
    pub(super) fn of(task: Waker) -> Open<T> {
        let bell = Arc::new(Bell { task, rung: Mutex::default(), is_late: AtomicBool::new(false) });
        Open {
            rings_late: Arc::new(Late(Arc::clone(&bell))).into(),
            bell,
            places: Vec::new(),
            free: Vec::new(),
            count: 0,
            due: VecDeque::new(),
            clock: Box::pin(sleep_until(Instant::now())),
            is_set: false,
        }
    }

    /// It is to be looked at at once. It is late no sooner than those before it.
    pub(super) fn insert(&mut self, thing: T, late: Instant) {
        let place = self.free.pop().unwrap_or_else(|| self.add_place());
        self.count += 1;
        let number = self.count;
        self.places[place].here = Some((number, thing));
        self.places[place].ring.note();
        self.due.push_back(Due { at: late, place, number });
        if let (Some(first), false) = (self.first_due(), self.is_set) {
            self.set(first.at);
        }
    }

    fn add_place(&mut self) -> usize {
        let place = self.places.len();
        let ring = Arc::new(Ring { bell: Arc::clone(&self.bell), place, is_rung: AtomicBool::new(false) });
        self.places.push(Place { waker: Arc::clone(&ring).into(), ring, here: None });
        place
    }

    /// How many are to be looked at: who rings again meanwhile waits for the next turn.
    pub(super) fn rung(&self) -> usize {
        self.bell.lock().len()
    }

    /// Looks at the next one that has rung. One that is ready goes, and comes out where there is more to do.
    pub(super) fn look<R>(
        &mut self,
        ask: impl FnOnce(&mut T, &mut Context<'_>) -> Poll<Option<R>>,
    ) -> Option<(T, R)> {
        let index = self.bell.lock().pop_front()?;
        let place = &mut self.places[index];
        place.ring.is_rung.store(false, Ordering::Release);
        let (_, thing) = place.here.as_mut()?;
        let Poll::Ready(more) = ask(thing, &mut Context::from_waker(&place.waker)) else { return None };
        self.free.push(index);
        match more {
            Some(more) => place.here.take().map(|(_, thing)| (thing, more)),
            None => {
                place.here = None;
                None
            }
        }
    }

    /// One that has lasted too long.
    pub(super) fn next_late(&mut self, now: Instant) -> Option<T> {
        if !self.bell.is_late.load(Ordering::Acquire) {
            return None;
        }
        let first = self.first_due();
        if let Some(late) = first.filter(|first| first.at <= now) {
            self.due.pop_front();
            self.free.push(late.place);
            return self.places[late.place].here.take().map(|(_, thing)| thing);
        }
        self.bell.is_late.store(false, Ordering::Release);
        self.is_set = false;
        first.into_iter().for_each(|first| self.set(first.at));
        None
    }

    /// Of those that are still here.
    fn first_due(&mut self) -> Option<Due> {
        loop {
            let first = *self.due.front()?;
            let here = self.places[first.place].here.as_ref();
            if here.is_some_and(|(number, _)| *number == first.number) {
                return Some(first);
            }
            self.due.pop_front();
        }
    }

    fn set(&mut self, at: Instant) {
        self.is_set = true;
        self.clock.as_mut().reset(at);
        if self.clock.as_mut().poll(&mut Context::from_waker(&self.rings_late)).is_ready() {
            self.rings_late.wake_by_ref();
        }
    }
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Whether that is news.
    fn note(&self) -> bool {
        let is_news = !self.is_rung.swap(true, Ordering::AcqRel);
        if is_news {
            self.bell.lock().push_back(self.place);
        }
        is_news
    }
}

impl Wake for Ring {
    fn wake(self: Arc<Ring>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Ring>) {
        if self.note() {
            self.bell.task.wake_by_ref();
        }
    }
}

impl Wake for Late {
    fn wake(self: Arc<Late>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Late>) {
        self.0.is_late.store(true, Ordering::Release);
        self.0.task.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Woken>) {
            self.0.store(true, Ordering::Release);
        }
    }

    /// Looks once at all that have rung, and says at which.
    fn looked_at(open: &mut Open<u32>, ready: impl Fn(u32) -> Poll<Option<()>>) -> (Vec<u32>, Vec<u32>) {
        let (mut asked, mut gone) = (Vec::new(), Vec::new());
        for _ in 0..open.rung() {
            let more = open.look(|thing, context| {
                asked.push(*thing);
                if *thing == 3 {
                    // It wants to go on, and waits for its turn all the same.
                    context.waker().wake_by_ref();
                }
                ready(*thing)
            });
            gone.extend(more.map(|(thing, ())| thing));
        }
        (asked, gone)
    }

    #[tokio::test]
    async fn who_rings_is_looked_at_and_no_other() {
        let woken = Arc::new(Woken::default());
        let mut open = Open::of(Arc::clone(&woken).into());
        let late = Instant::now() + Duration::from_secs(3600);
        (0..5).for_each(|thing| open.insert(thing, late));
        let wakers: Vec<Waker> = open.places.iter().map(|place| place.waker.clone()).collect();
        assert!(!woken.0.load(Ordering::Acquire), "whoever inserts looks by itself");
        assert_eq!(looked_at(&mut open, |_| Poll::Pending), (vec![0, 1, 2, 3, 4], vec![]));
        assert!(woken.0.swap(false, Ordering::AcqRel));
        assert_eq!(looked_at(&mut open, |_| Poll::Pending), (vec![3], vec![]));
        [4, 1, 4].into_iter().for_each(|place: usize| wakers[place].wake_by_ref());
        let ready = |thing| if thing == 3 { Poll::Pending } else { Poll::Ready((thing == 4).then_some(())) };
        assert_eq!(looked_at(&mut open, ready), (vec![3, 4, 1], vec![4]));
        // Those that follow have the places of those that went, and their wakers.
        open.insert(6, late);
        open.insert(7, late);
        assert_eq!(open.places.len(), 5);
        assert_eq!(looked_at(&mut open, |_| Poll::Pending).0, [3, 6, 7]);
    }

    #[tokio::test]
    async fn who_is_late_comes_out_in_time_and_others_stay() {
        let mut open = Open::of(Waker::noop().clone());
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        [10, 20, 20, 30].into_iter().zip(0..).for_each(|(ms, thing)| open.insert(thing, at(ms)));
        // The first one goes before its time, so nobody is late when the clock rings for it.
        looked_at(&mut open, |thing| if thing == 0 { Poll::Ready(None) } else { Poll::Pending });
        let mut late = Vec::new();
        while late.len() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = Instant::now();
            late.extend(std::iter::from_fn(|| open.next_late(now)).map(|thing| (thing, now)));
        }
        for ((thing, now), (expected, ms)) in late.into_iter().zip([(1, 20), (2, 20), (3, 30)]) {
            assert!(thing == expected && now >= at(ms), "{thing}");
        }
        assert!(open.due.is_empty() && open.places.iter().all(|place| place.here.is_none()));
    }
}
