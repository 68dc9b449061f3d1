//! SIGINT, SIGTERM and SIGHUP (signal(7)): a handler wakes a thread through a pipe.

use std::io::{self, ErrorKind, Read};
use std::mem::MaybeUninit;
use std::os::fd::IntoRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;

use libc::{SIG_DFL, SIG_IGN, SIGHUP, SIGINT, SIGTERM, c_int, sighandler_t};

use crate::stop;

/// The signals, and whether their handler is ours.
static SIGNALS: [(c_int, AtomicBool); 3] =
    [(SIGINT, AtomicBool::new(false)), (SIGTERM, AtomicBool::new(false)), (SIGHUP, AtomicBool::new(false))];
/// What wakes the thread; never closed. Negative: there is none yet.
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// The process that the thread is in: a forked one has a copy of all this, but no thread.
static PROCESS: AtomicI32 = AtomicI32::new(0);
/// When the first signal came, on the clock of `now`; 0: none came yet.
static FIRST: AtomicU64 = AtomicU64::new(0);
/// Within so many milliseconds after the first, a signal counts as the same request.
const SAME_REQUEST: u64 = 250;

/// Takes over those that are neither ignored nor somebody else's.
pub(crate) fn take_signals() -> io::Result<()> {
    let mut defaults = Vec::new();
    for entry @ (signal, is_ours) in &SIGNALS {
        match disposition(*signal)? {
            SIG_DFL => defaults.push(entry),
            SIG_IGN => {}
            _ if is_ours.load(Ordering::Relaxed) => {}
            _ => {
                let text = format!("signal {signal} has a handler already");
                return Err(io::Error::new(ErrorKind::AlreadyExists, text));
            }
        }
    }
    start_thread()?;
    FIRST.store(0, Ordering::SeqCst);
    for (signal, is_ours) in defaults {
        set_disposition(*signal, handler())?;
        is_ours.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Leaves them to the system again; unless one has come: then this process is about to end, and
/// the same request may come once more.
pub(crate) fn give_signals_back() {
    if FIRST.load(Ordering::SeqCst) != 0 {
        return;
    }
    for (signal, is_ours) in &SIGNALS {
        let is_still_ours = disposition(*signal).is_ok_and(|current| current == handler());
        if is_ours.swap(false, Ordering::Relaxed)
            && is_still_ours
            && let Err(error) = set_disposition(*signal, SIG_DFL)
        {
            log::error!("signal {signal} keeps its handler: {error}");
        }
    }
}

fn handler() -> sighandler_t {
    on_signal as *const () as sighandler_t
}

/// Only async-signal-safe calls (signal-safety(7)), and none that fails, so `errno` stays as it is.
extern "C" fn on_signal(signal: c_int) {
    // SAFETY: takes nothing, touches nothing.
    let process = unsafe { libc::getpid() };
    let now = now();
    let is_ours = process == PROCESS.load(Ordering::SeqCst);
    match FIRST.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) if is_ours => {
            // SAFETY: the byte outlives the call; the descriptor is never closed.
            unsafe { libc::write(WAKE.load(Ordering::SeqCst), ptr::from_ref(&0_u8).cast(), 1) };
        }
        Err(first) if is_ours && now.saturating_sub(first) < SAME_REQUEST => {}
        // What the system does by default; as soon as we return, since `signal` is blocked until then.
        _ => {
            // SAFETY: both only take numbers.
            unsafe {
                libc::signal(signal, SIG_DFL);
                libc::raise(signal);
            }
        }
    }
}

/// Milliseconds on a clock that does not jump, and never 0.
fn now() -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the time outlives the call, and was zeroed, which makes it valid before.
    let time = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr());
        time.assume_init()
    };
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000 + 1
}

/// The thread that tells everybody, once for each process.
fn start_thread() -> io::Result<()> {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    if PROCESS.load(Ordering::SeqCst) == process {
        return Ok(());
    }
    let (mut wait, wake) = io::pipe()?;
    thread::Builder::new().name("sidewire-signals".into()).spawn(move || {
        loop {
            match wait.read(&mut [0]) {
                Ok(0) => return,
                Ok(_) => stop::tell(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return log::error!("signals are no longer heard: {error}"),
            }
        }
    })?;
    WAKE.store(wake.into_raw_fd(), Ordering::SeqCst);
    PROCESS.store(process, Ordering::SeqCst);
    Ok(())
}

/// What happens at this signal.
fn disposition(signal: c_int) -> io::Result<sighandler_t> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set; the action outlives the call, which fills it in.
    match unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } {
        // SAFETY: filled in.
        0 => Ok(unsafe { action.assume_init() }.sa_sigaction),
        _ => Err(io::Error::last_os_error()),
    }
}

/// SA_RESTART spares the program's other system calls.
fn set_disposition(signal: c_int, handler: sighandler_t) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroed is valid: no flags, and an empty mask is made so. The action outlives the call, and
    // the handler is SIG_DFL or a function that is always there.
    let result = unsafe {
        let action = action.assume_init_mut();
        action.sa_sigaction = handler;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        libc::sigemptyset(&raw mut action.sa_mask);
        libc::sigaction(signal, action, ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
