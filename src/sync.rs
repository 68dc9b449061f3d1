//! What threads share and wait by, for those rooms whose orders are tried out: of the standard library; in models
//! (`--cfg loom`, see `ci/deep`) of loom, and the time is what a model says.

#[cfg(all(test, loom))]
pub(crate) use models::*;
#[cfg(not(all(test, loom)))]
pub(crate) use real::*;

#[cfg(not(all(test, loom)))]
mod real {
    use std::time::Instant;

    pub(crate) use std::sync::atomic::AtomicBool;
    pub(crate) use std::sync::{Mutex, MutexGuard};
    pub(crate) use std::thread::{Thread, current, park, park_timeout};

    #[inline]
    pub(crate) fn now() -> Instant {
        Instant::now()
    }

    /// Where this thread keeps what is its own: a number that no other one has that lives.
    #[inline]
    pub(crate) fn own_place() -> usize {
        thread_local! {
            #[allow(clippy::missing_const_for_thread_local, reason = "it is const; Clippy errs where the system's keys are used")]
            static OWN: u8 = const { 0 };
        }
        OWN.with(|own| std::ptr::from_ref(own).addr())
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::cell::Cell;
    use std::sync::atomic::Ordering;
    use std::time::{Duration, Instant};

    pub(crate) use loom::sync::{Mutex, MutexGuard};
    pub(crate) use loom::thread::{Thread, current, park};

    thread_local! {
        /// A model's threads are one thread of the system, and have one time.
        static NOW: Cell<Option<Instant>> = const { Cell::new(None) };
    }

    pub(crate) fn now() -> Instant {
        NOW.get().unwrap_or_else(|| {
            let now = Instant::now();
            NOW.set(Some(now));
            now
        })
    }

    /// So much time is over.
    pub(crate) fn pass(time: Duration) {
        NOW.set(Some(now() + time));
    }

    /// Others go first, then the time is over.
    pub(crate) fn park_timeout(time: Duration) {
        loom::thread::yield_now();
        pass(time);
    }

    pub(crate) fn own_place() -> usize {
        loom::thread_local! {
            static OWN: Box<u8> = Box::new(0);
        }
        OWN.with(|own| std::ptr::from_ref(&**own).addr())
    }

    /// Loom takes `SeqCst` for `AcqRel`, and knows the one order of all such accesses only of fences; and it knows the one
    /// order of all that is stored in a place only if nothing is stored there without a look at what was there before.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(crate) fn load(&self, order: Ordering) -> bool {
            in_order(order, || self.0.load(order))
        }

        pub(crate) fn store(&self, value: bool, order: Ordering) {
            in_order(order, || self.0.swap(value, order));
        }

        pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
            in_order(order, || self.0.swap(value, order))
        }
    }

    fn in_order<T>(order: Ordering, access: impl FnOnce() -> T) -> T {
        let fence = || {
            if order == Ordering::SeqCst {
                loom::sync::atomic::fence(Ordering::SeqCst);
            }
        };
        fence();
        let result = access();
        fence();
        result
    }
}
