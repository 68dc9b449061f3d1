//! Ctrl-C and its kin (SetConsoleCtrlHandler): the system calls a handler on a thread of its own. And what another
//! process asks of this one, which is the same.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use windows_sys::Win32::Foundation::{FALSE, STATUS_CONTROL_C_EXIT, TRUE};
use windows_sys::Win32::System::Console::{
    CTRL_BREAK_EVENT, CTRL_C_EVENT, CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
    SetConsoleCtrlHandler,
};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;
use windows_sys::Win32::System::SystemInformation::GetTickCount64;
use windows_sys::core::BOOL;

use super::process::end_at_once;
use super::stop_event;
use crate::stop;

/// Whether the handler is set.
static IS_SET: AtomicBool = AtomicBool::new(false);
/// When the first request came, in milliseconds since the system's start; 0: none came yet.
static FIRST: AtomicU64 = AtomicU64::new(0);
/// Within so many milliseconds after the first, a request counts as the same.
const SAME_REQUEST: u64 = 250;
/// How long the end of a process may be held up: the system waits 5 s (HandlerRoutine).
const LAST_MOMENTS: Duration = Duration::from_secs(4);

/// Takes over. A Ctrl-C that this process was started to ignore does not reach the handler.
pub(crate) fn take_signals() -> io::Result<()> {
    FIRST.store(0, Ordering::SeqCst);
    if IS_SET.load(Ordering::SeqCst) {
        return Ok(());
    }
    set_handler(true)?;
    IS_SET.store(true, Ordering::SeqCst);
    stop_event::listen();
    Ok(())
}

/// Leaves them to the system again; unless somebody has asked: then this process is about to end.
pub(crate) fn give_signals_back() {
    if FIRST.load(Ordering::SeqCst) != 0 || !IS_SET.swap(false, Ordering::SeqCst) {
        return;
    }
    if let Err(error) = set_handler(false) {
        log::error!("the handler of Ctrl-C stays: {error}");
    }
}

fn set_handler(on: bool) -> io::Result<()> {
    // SAFETY: the handler is a function that is always there.
    match unsafe { SetConsoleCtrlHandler(Some(on_event), BOOL::from(on)) } {
        FALSE => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Says whether it has dealt with the event; if not, the system ends the process.
extern "system" fn on_event(event: u32) -> BOOL {
    match event {
        CTRL_LOGOFF_EVENT if is_service() => return FALSE,
        CTRL_C_EVENT | CTRL_BREAK_EVENT | CTRL_CLOSE_EVENT | CTRL_LOGOFF_EVENT | CTRL_SHUTDOWN_EVENT => {}
        _ => return FALSE,
    }
    // SAFETY: takes nothing, touches nothing.
    let now = unsafe { GetTickCount64() }.max(1);
    let first = FIRST.compare_exchange(0, now, Ordering::SeqCst, Ordering::SeqCst);
    if first.is_ok() {
        stop::tell();
    }
    match event {
        CTRL_C_EVENT | CTRL_BREAK_EVENT => {
            BOOL::from(first.map_or_else(|first| now.saturating_sub(first) < SAME_REQUEST, |_| true))
        }
        // The process ends when we return.
        _ => {
            stop::wait_until_nobody_is_left(LAST_MOMENTS);
            TRUE
        }
    }
}

/// What a parent asks of its child, or `sidewire stop` of a server: the same as Ctrl-C, as far as anybody hears that; otherwise what the
/// system does then.
pub(super) fn on_terminate() {
    if !IS_SET.load(Ordering::SeqCst) || on_event(CTRL_C_EVENT) == FALSE {
        end_at_once(STATUS_CONTROL_C_EXIT.cast_unsigned());
    }
}

/// Whether this process belongs to no user's session: somebody's logging off is none of its concern.
fn is_service() -> bool {
    let mut session = u32::MAX;
    // SAFETY: the number outlives the call.
    let known = unsafe { ProcessIdToSessionId(std::process::id(), &raw mut session) };
    known != FALSE && session == 0
}
