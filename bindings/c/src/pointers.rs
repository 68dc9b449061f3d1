//! From C's pointers to what may be used, and back.

use std::ffi::{CStr, CString, c_char, c_void};
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use crate::codes::{SW_DEFAULT_TIMEOUT, SW_NO_TIMEOUT};
use crate::error::{Failed, Outcome};

/// An object that has to be there.
pub(crate) fn given<T>(object: Option<T>, what: &str) -> Outcome<T> {
    object.ok_or_else(|| Failed::invalid(&format!("{what} is NULL")))
}

/// An object of which the functions that run keep what they need, so that a handler further down may free it.
pub(crate) trait Shared {
    type Inner;

    fn inner(&self) -> &Arc<Self::Inner>;
}

/// What such an object has. It comes as a pointer, since a reference would have to be good as long as the function runs.
pub(crate) fn share<T: Shared>(object: *const T, what: &str) -> Outcome<Arc<T::Inner>> {
    // SAFETY: C's caller gives NULL, or an object that was handed out and is not freed yet.
    let object = unsafe { object.as_ref() };
    given(object, what).map(|object| Arc::clone(object.inner()))
}

/// What lies in an object that one thread uses at a time, taken out at once: as a pointer, since a handler further down may use
/// or free it.
pub(crate) fn take_out<T, I: Default>(
    object: *mut T,
    inner: impl FnOnce(&mut T) -> &mut I,
    what: &str,
) -> Outcome<I> {
    // SAFETY: C's caller gives NULL, or an object that was handed out, is not freed yet, and that no other thread uses.
    let object = unsafe { object.as_mut() };
    given(object, what).map(|object| std::mem::take(inner(object)))
}

/// A text.
///
/// # Safety
/// It is NULL, or ends with a NUL and stays as it is for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Outcome<&'a str> {
    if text.is_null() {
        return Err(Failed::invalid(&format!("{what} is NULL")));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|error| Failed::invalid(&format!("{what} is not UTF-8: {error}")))
}

/// Bytes; NULL is fine for none.
///
/// # Safety
/// So many can be read there, and stay as they are for `'a`.
pub(crate) unsafe fn bytes<'a>(data: *const c_void, len: usize) -> Outcome<&'a [u8]> {
    match len {
        0 => Ok(&[]),
        _ if data.is_null() => Err(Failed::invalid(&format!("{len} bytes of data, and data is NULL"))),
        _ if isize::try_from(len).is_err() => Err(Failed::invalid("more bytes than there can be")),
        // SAFETY: it is not NULL, its length is one that there can be, and the rest is the caller's promise.
        _ => Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) }),
    }
}

/// A place for a result, which holds NULL until there is one.
pub(crate) fn place<'a, T>(place: Option<&'a mut MaybeUninit<*mut T>>, what: &str) -> Outcome<Place<'a, T>> {
    let place = given(place, what)?;
    place.write(std::ptr::null_mut());
    Ok(Place(place))
}

/// See [`place`].
pub(crate) struct Place<'a, T>(&'a mut MaybeUninit<*mut T>);

impl<T> Place<'_, T> {
    pub(crate) fn put(self, value: T) {
        self.0.write(Box::into_raw(Box::new(value)));
    }
}

/// For whoever may not have it for himself: never waits.
pub(crate) fn alone<'a, T>(object: &'a Mutex<T>, what: &str) -> Outcome<MutexGuard<'a, T>> {
    match object.try_lock() {
        Ok(guard) => Ok(guard),
        // What a panic has left is as whole as what any failure leaves.
        Err(TryLockError::Poisoned(guard)) => Ok(guard.into_inner()),
        Err(TryLockError::WouldBlock) => {
            Err(Failed::invalid(&format!("{what} is in use: by another thread, or further up")))
        }
    }
}

/// As a text for C, without what can't be in one.
pub(crate) fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "\u{fffd}")).unwrap_or_default()
}

/// How long. `None`: without a limit; so is what has no usual time and was to have that.
pub(crate) fn time(ms: u32) -> Option<Duration> {
    match ms {
        SW_NO_TIMEOUT | SW_DEFAULT_TIMEOUT => None,
        ms => Some(Duration::from_millis(ms.into())),
    }
}

/// For who waits in a loop of his own: rounded up, and not more than poll(2) takes.
pub(crate) fn millis(time: Option<Duration>) -> u32 {
    let Some(time) = time else { return SW_NO_TIMEOUT };
    let millis = time.as_nanos().div_ceil(1_000_000);
    u32::try_from(millis).unwrap_or(u32::MAX).min(i32::MAX.unsigned_abs())
}

/// The same for whoever waits.
pub(crate) fn patience(ms: u32) -> Duration {
    time(ms).unwrap_or(Duration::MAX)
}

/// The program's own pointer, handed back to it and never looked at.
#[derive(Clone, Copy)]
pub(crate) struct User(*mut c_void);

// SAFETY: nobody here follows it; that callbacks may get it on the threads that the header names is the program's promise.
unsafe impl Send for User {}
// SAFETY: as above.
unsafe impl Sync for User {}

impl User {
    pub(crate) fn new(user: *mut c_void) -> User {
        User(user)
    }

    pub(crate) fn pointer(self) -> *mut c_void {
        self.0
    }
}
